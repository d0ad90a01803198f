#include "oci/reference.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace vibe::oci {
namespace {

constexpr size_t kMaxReference = 512;
constexpr size_t kMaxRepository = 255;
constexpr size_t kMaxTag = 128;
constexpr char kDefaultRegistry[] = "docker.io";

bool IsLowerHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
  });
}

bool IsLowerAlnum(char c) {
  return absl::ascii_isdigit(static_cast<unsigned char>(c)) ||
         absl::ascii_islower(static_cast<unsigned char>(c));
}

// [a-z0-9]+ joined by single '.', '_', "__" or any run of '-'.
bool IsPathComponent(absl::string_view text) {
  if (text.empty() || !IsLowerAlnum(text.front()) || !IsLowerAlnum(text.back())) {
    return false;
  }
  for (size_t i = 0; i < text.size();) {
    if (IsLowerAlnum(text[i])) {
      ++i;
      continue;
    }
    const size_t start = i;
    while (i < text.size() && !IsLowerAlnum(text[i])) {
      ++i;
    }
    const absl::string_view separator = text.substr(start, i - start);
    if (separator != "." && separator != "_" && separator != "__" &&
        separator.find_first_not_of('-') != absl::string_view::npos) {
      return false;
    }
  }
  return true;
}

bool IsTag(absl::string_view text) {
  const auto is_word = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
  };
  return !text.empty() && text.size() <= kMaxTag && is_word(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return is_word(c) || c == '.' || c == '-'; });
}

bool IsDomainLabel(absl::string_view text) {
  return !text.empty() && text.front() != '-' && text.back() != '-' &&
         std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return absl::ascii_isalnum(c) || c == '-'; });
}

bool IsPort(absl::string_view text) {
  uint32_t port = 0;
  return !text.empty() && text.size() <= 5 &&
         std::all_of(text.begin(), text.end(), absl::ascii_isdigit) &&
         absl::SimpleAtoi(text, &port) && port >= 1 && port <= 65535;
}

// host, host:port, [v6] or [v6]:port.
bool IsRegistry(absl::string_view text) {
  absl::string_view host = text;
  absl::string_view rest;
  if (absl::StartsWith(text, "[")) {
    const size_t end = text.find(']');
    if (end == absl::string_view::npos || end == 1) {
      return false;
    }
    host = text.substr(1, end - 1);
    rest = text.substr(end + 1);
    if (!std::all_of(host.begin(), host.end(),
                     [](unsigned char c) { return absl::ascii_isxdigit(c) || c == ':'; })) {
      return false;
    }
  } else {
    const size_t colon = std::min(text.find(':'), text.size());
    host = text.substr(0, colon);
    rest = text.substr(colon);
    for (const absl::string_view label : absl::StrSplit(host, '.')) {
      if (!IsDomainLabel(label)) {
        return false;
      }
    }
  }
  return rest.empty() || (rest[0] == ':' && IsPort(rest.substr(1)));
}

// Whether the part before the first '/' names a registry and not the first part of a path.
bool LooksLikeRegistry(absl::string_view text) {
  return text == "localhost" || text.find_first_of(".:") != absl::string_view::npos ||
         std::any_of(text.begin(), text.end(), absl::ascii_isupper);
}

absl::Status Bad(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", absl::CHexEscape(text.substr(0, 100)), "\" is not an image name: ", why));
}

absl::Status CheckRepository(absl::string_view text, absl::string_view repository) {
  if (repository.size() > kMaxRepository) {
    return Bad(text, absl::StrCat("its path is longer than ", kMaxRepository, " characters"));
  }
  for (const absl::string_view component : absl::StrSplit(repository, '/')) {
    if (std::any_of(component.begin(), component.end(), absl::ascii_isupper)) {
      return Bad(text, "its path must be in lower case");
    }
    if (!IsPathComponent(component)) {
      return Bad(text, component.empty()
                           ? "a part of its path is empty"
                           : "its path may hold a-z, 0-9 and single . _ - between them");
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool IsDigest(absl::string_view text) {
  return text.size() == 7 + 64 && absl::StartsWith(text, "sha256:") && IsLowerHex(text.substr(7));
}

std::string Reference::ToString() const {
  std::string text = absl::StrCat(registry, "/", repository);
  if (!tag.empty()) {
    absl::StrAppend(&text, ":", tag);
  }
  if (!digest.empty()) {
    absl::StrAppend(&text, "@", digest);
  }
  return text;
}

absl::StatusOr<Reference> ParseReference(absl::string_view text) {
  if (text.empty()) {
    return absl::InvalidArgumentError("an image name is empty");
  }
  if (text.size() > kMaxReference) {
    return Bad(text, absl::StrCat("it is longer than ", kMaxReference, " characters"));
  }
  if (absl::StrContains(text, "://")) {
    return Bad(text, "leave out the scheme in front of the registry");
  }
  Reference reference;
  absl::string_view rest = text;
  if (const size_t at = rest.find('@'); at != absl::string_view::npos) {
    reference.digest = std::string(rest.substr(at + 1));
    rest = rest.substr(0, at);
    if (!IsDigest(reference.digest)) {
      return Bad(text, "after the @ must come sha256: and 64 lower-case hex digits");
    }
  }
  if (rest.size() == 64 && IsLowerHex(rest)) {
    return Bad(text, "64 hex digits are an image id, not a name");
  }
  const size_t slash = rest.find('/');
  reference.registry = kDefaultRegistry;
  if (slash != absl::string_view::npos && LooksLikeRegistry(rest.substr(0, slash))) {
    reference.registry = std::string(rest.substr(0, slash));
    rest = rest.substr(slash + 1);
    if (!IsRegistry(reference.registry)) {
      return Bad(text, "its registry is not a host name with an optional port");
    }
  }
  if (const size_t colon = rest.rfind(':');
      colon != absl::string_view::npos && rest.find('/', colon) == absl::string_view::npos) {
    reference.tag = std::string(rest.substr(colon + 1));
    rest = rest.substr(0, colon);
    if (!IsTag(reference.tag)) {
      return Bad(
          text,
          "its tag may hold up to 128 letters, digits and _ . -, and starts with none of . -");
    }
  }
  VIBE_RETURN_IF_ERROR(CheckRepository(text, rest));
  if (reference.registry == "index.docker.io") {
    reference.registry = kDefaultRegistry;
  }
  const bool official = reference.registry == kDefaultRegistry && !absl::StrContains(rest, '/');
  reference.repository = official ? absl::StrCat("library/", rest) : std::string(rest);
  if (reference.tag.empty() && reference.digest.empty()) {
    reference.tag = "latest";
  }
  return reference;
}

}  // namespace vibe::oci
