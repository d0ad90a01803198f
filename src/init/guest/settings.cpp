#include "init/guest/settings.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace vibe::init::guest {
namespace {

bool IsName(absl::string_view text) {
  return !text.empty() && text.size() <= 63 && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '-';
  });
}

absl::Status Set(absl::string_view key, absl::string_view value, Settings& settings) {
  if (key == "net" && (value == "slirp" || value == "dhcp" || value == "none")) {
    settings.uplink = value == "slirp"  ? Uplink::kSlirp
                      : value == "dhcp" ? Uplink::kDhcp
                                        : Uplink::kNone;
  } else if (key == "data" && IsName(value)) {
    settings.data = std::string(value);
  } else if (key == "listen" && !value.empty()) {
    settings.listen.emplace_back(value);
  } else if (key == "forward" && !value.empty()) {
    settings.forward.emplace_back(value);
  } else if (key == "hostname" && IsName(value)) {
    settings.hostname = std::string(value);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("the kernel's command line has vibe.", key, "=", value,
                     ", which this guest does not understand; host and guest are of different "
                     "versions"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Settings> ParseSettings(absl::string_view command_line) {
  Settings settings;
  for (absl::string_view word :
       absl::StrSplit(command_line, absl::ByAnyChar(" \t\n"), absl::SkipEmpty())) {
    if (!absl::ConsumePrefix(&word, "vibe.")) {
      continue;
    }
    const size_t equals = word.find('=');
    const absl::string_view value =
        equals == absl::string_view::npos ? absl::string_view() : word.substr(equals + 1);
    if (absl::Status status = Set(word.substr(0, equals), value, settings); !status.ok()) {
      return status;
    }
  }
  return settings;
}

}  // namespace vibe::init::guest
