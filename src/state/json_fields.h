// Fields of a JSON object, each checked for its type. Inside this room only. Pure.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::state {

// An object whose "schemaVersion" is one that this program reads. DataLoss for anything else, but
// FailedPrecondition with SNAPSHOT_MISMATCH for a higher version. `what` names it in the message.
absl::StatusOr<nlohmann::json> ParseDocument(absl::string_view text, absl::string_view what);

// Reads fields one after the other; the first that is missing or of another type becomes the error.
class FieldReader {
 public:
  explicit FieldReader(const nlohmann::json& object) : object_(object) {}

  std::string Text(const char* key);          // null reads as empty
  std::string OptionalText(const char* key);  // a missing one, too
  uint64_t Number(const char* key);           // not negative
  bool Flag(const char* key);
  const nlohmann::json& Object(const char* key);
  const nlohmann::json& Array(const char* key);
  void Fail(absl::string_view key, absl::string_view expected);

  bool ok() const { return error_.empty(); }
  const std::string& error() const { return error_; }

 private:
  const nlohmann::json* Find(const char* key, bool required);
  const nlohmann::json& object_;
  std::string error_;
};

}  // namespace vibe::state
