#include "manifest/names.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "manifest/utf8.h"

namespace vibe::manifest {
namespace {

constexpr size_t kMaxLabel = 63;

bool IsDigits(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

bool IsAllOf(absl::string_view text, absl::string_view more_than_alnum) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           absl::StrContains(more_than_alnum, c);
  });
}

bool IsLabel(absl::string_view text) {
  const auto is_end = [](char c) {
    return absl::ascii_islower(static_cast<unsigned char>(c)) ||
           absl::ascii_isdigit(static_cast<unsigned char>(c));
  };
  return !text.empty() && text.size() <= kMaxLabel && is_end(text.front()) && is_end(text.back()) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return is_end(c) || c == '-' || c == '_'; });
}

// As browsers tell an IPv4 address, in any of the forms that inet_aton reads, from a name.
bool IsNumber(absl::string_view label) {
  return IsDigits(label) || (absl::ConsumePrefix(&label, "0x") &&
                             std::all_of(label.begin(), label.end(), absl::ascii_isxdigit));
}

bool IsVersionNumber(absl::string_view text) {
  return IsDigits(text) && (text.size() == 1 || text[0] != '0');
}

bool AreIdentifiers(absl::string_view text, bool leading_zeros) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '.');
  return std::all_of(parts.begin(), parts.end(), [&](absl::string_view part) {
    return !part.empty() && IsAllOf(part, "-") &&
           (leading_zeros || !IsDigits(part) || IsVersionNumber(part));
  });
}

bool IsUserOrGroup(absl::string_view text) {
  if (IsDigits(text)) {
    uint32_t id = 0;
    return absl::SimpleAtoi(text, &id) &&
           id <= static_cast<uint32_t>(std::numeric_limits<int32_t>::max());
  }
  const absl::string_view name = absl::EndsWith(text, "$") ? text.substr(0, text.size() - 1) : text;
  return !name.empty() && name[0] != '-' && IsAllOf(name, "_.@-");
}

}  // namespace

bool IsAppId(absl::string_view text) {
  const std::vector<absl::string_view> labels = absl::StrSplit(text, '.');
  if (labels.size() < 2) {
    return false;
  }
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i].empty() || !absl::ascii_isalpha(static_cast<unsigned char>(labels[i][0])) ||
        !IsAllOf(labels[i], i == 0 ? "" : "-")) {
      return false;
    }
  }
  return true;
}

bool IsSemVer(absl::string_view text) {
  if (const size_t plus = text.find('+'); plus != absl::string_view::npos) {
    if (!AreIdentifiers(text.substr(plus + 1), true)) {
      return false;
    }
    text = text.substr(0, plus);
  }
  if (const size_t dash = text.find('-'); dash != absl::string_view::npos) {
    if (!AreIdentifiers(text.substr(dash + 1), false)) {
      return false;
    }
    text = text.substr(0, dash);
  }
  const std::vector<absl::string_view> numbers = absl::StrSplit(text, '.');
  return numbers.size() == 3 && std::all_of(numbers.begin(), numbers.end(), IsVersionNumber);
}

bool IsServiceName(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-';
  });
}

bool IsHostName(absl::string_view text) {
  const std::vector<absl::string_view> labels = absl::StrSplit(text, '.');
  return text.size() <= kMaxHostName && std::all_of(labels.begin(), labels.end(), IsLabel) &&
         !IsTakenForAddress(text);
}

bool IsTakenForAddress(absl::string_view text) {
  const size_t dot = text.rfind('.');
  return IsNumber(dot == absl::string_view::npos ? text : text.substr(dot + 1));
}

bool IsOwnHostName(absl::string_view text) {
  return text == "localhost" || absl::EndsWith(text, ".localhost") || text == "ip6-localhost" ||
         text == "ip6-loopback";
}

bool IsVolumeName(absl::string_view text) {
  return !text.empty() && absl::ascii_isalnum(static_cast<unsigned char>(text[0])) &&
         IsAllOf(text, "_.-");
}

bool IsVariableName(absl::string_view text) {
  return !text.empty() && !absl::ascii_isdigit(static_cast<unsigned char>(text[0])) &&
         IsAllOf(text, "_");
}

bool IsUser(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  return parts.size() <= 2 && std::all_of(parts.begin(), parts.end(), IsUserOrGroup);
}

std::optional<std::string> NormalizedPath(absl::string_view text) {
  if (!absl::StartsWith(text, "/") || HasControl(text)) {
    return std::nullopt;
  }
  std::string path;
  for (const absl::string_view part : absl::StrSplit(text, '/', absl::SkipEmpty())) {
    if (part == "..") {
      return std::nullopt;
    }
    if (part != ".") {
      absl::StrAppend(&path, "/", part);
    }
  }
  return path.empty() ? std::nullopt : std::optional(path);
}

bool IsSystemPath(absl::string_view normalized) {
  return normalized == "/proc" || absl::StartsWith(normalized, "/proc/") || normalized == "/sys" ||
         absl::StartsWith(normalized, "/sys/") || normalized == "/dev";
}

bool IsRelativePath(absl::string_view text) {
  if (text.empty() || text[0] == '/' || HasControl(text) || absl::StrContains(text, '\\') ||
      absl::StrContains(text, "://")) {
    return false;
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '/');
  return std::none_of(parts.begin(), parts.end(),
                      [](absl::string_view part) { return part == ".."; });
}

}  // namespace vibe::manifest
