// Reads the parameters of a request's query by name; Finish reports one that is malformed, given
// twice or unknown. One thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::host {

// "%2F" and "+" (with `plus`) decoded. InvalidArgument for a "%" without two hex digits and for a
// zero byte. Pure.
absl::StatusOr<std::string> PercentDecode(absl::string_view text, bool plus);

class QueryReader {
 public:
  // `query` is what follows the "?".
  static absl::StatusOr<QueryReader> Parse(absl::string_view query);

  std::optional<std::string> String(const std::string& name);
  std::optional<bool> Bool(const std::string& name);  // true or false
  std::optional<uint32_t> Number(const std::string& name, uint32_t max);

  // The first error, or ok.
  absl::Status Finish() const;

 private:
  std::map<std::string, std::string> values_;
  std::set<std::string> known_;
  absl::Status error_;
};

}  // namespace vibe::host
