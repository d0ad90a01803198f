#include "host/route.h"

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace vibe::host {

std::optional<std::map<std::string, std::string>> MatchPath(absl::string_view path_template,
                                                            absl::string_view path) {
  const std::vector<absl::string_view> wanted = absl::StrSplit(path_template, '/');
  const std::vector<absl::string_view> given = absl::StrSplit(path, '/');
  if (wanted.size() != given.size()) {
    return std::nullopt;
  }
  std::map<std::string, std::string> values;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (absl::StartsWith(wanted[i], "{")) {
      // Decoded after the split: a %2F is part of a name.
      const absl::StatusOr<std::string> value = PercentDecode(given[i], false);
      if (!value.ok() || value->empty()) {
        return std::nullopt;
      }
      values[std::string(wanted[i].substr(1, wanted[i].size() - 2))] = *value;
    } else if (wanted[i] != given[i]) {
      return std::nullopt;
    }
  }
  return values;
}

absl::Status Bare(ApiCall& call) {
  VIBE_RETURN_IF_ERROR(call.query.Finish());
  return call.body.Finish();
}

}  // namespace vibe::host
