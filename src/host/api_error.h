// The JSON of the host API: errors, and request bodies read with limits. Pure and thread-safe.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::host {

// The schema Error: code, reason, message, advice, service, log.
nlohmann::json ErrorJson(const absl::Status& status);

// The HTTP status that fits. 200 for ok.
int HttpStatusOf(const absl::Status& status);

// One line, without line breaks inside; bytes that are not UTF-8 become U+FFFD.
std::string DumpJson(const nlohmann::json& value);

// Reads the members of a request's JSON object by name. A member that is absent or null is nullopt;
// one of the wrong kind is an error that Finish reports, as is a member that nobody asked for.
class BodyReader {
 public:
  // An empty body counts as {}. InvalidArgument for anything but one JSON object nested at most 16
  // deep.
  static absl::StatusOr<BodyReader> Parse(absl::string_view body);

  std::optional<std::string> String(const std::string& name);
  std::optional<bool> Bool(const std::string& name);
  std::optional<uint32_t> Number(const std::string& name, uint32_t max);
  std::optional<std::vector<std::string>> Strings(const std::string& name, size_t max_count);
  std::optional<std::vector<std::pair<std::string, std::string>>> StringMap(const std::string& name,
                                                                            size_t max_count);
  std::optional<BodyReader> Object(const std::string& name);  // call its Finish too

  // The first error, or ok.
  absl::Status Finish() const;

 private:
  BodyReader(nlohmann::json object, std::string prefix);
  const nlohmann::json* Take(const std::string& name);
  void Fail(const std::string& name, absl::string_view expected);

  nlohmann::json object_;
  std::string prefix_;
  std::vector<std::string> known_;
  absl::Status error_;
};

}  // namespace vibe::host
