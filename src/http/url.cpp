#include "http/url.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status.h"

namespace vibe::http {
namespace {

constexpr size_t kMaxUrl = 16 << 10;
constexpr size_t kMaxHost = 255;

uint16_t DefaultPort(bool tls) {
  return tls ? 443 : 80;
}

bool IsVisible(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

bool IsHost(absl::string_view host, bool bracketed) {
  return !host.empty() && host.size() <= kMaxHost &&
         std::all_of(host.begin(), host.end(), [bracketed](unsigned char c) {
           return bracketed ? absl::ascii_isxdigit(c) || c == ':' || c == '.'
                            : absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_';
         });
}

absl::Status Invalid(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("not a usable URL: ", what));
}

}  // namespace

std::string Url::Authority() const {
  const std::string name = absl::StrContains(host, ':') ? absl::StrCat("[", host, "]") : host;
  return port == DefaultPort(tls) ? name : absl::StrCat(name, ":", port);
}

std::string Url::Origin() const {
  return absl::StrCat(tls ? "https://" : "http://", host, ":", port);
}

absl::StatusOr<Url> ParseAuthority(absl::string_view text, bool tls) {
  Url url;
  url.tls = tls;
  url.port = DefaultPort(tls);
  absl::string_view host = text;
  absl::string_view port;
  const bool bracketed = absl::StartsWith(text, "[");
  if (bracketed) {
    const size_t end = text.find(']');
    if (end == absl::string_view::npos) {
      return Invalid("a bracket is not closed");
    }
    host = text.substr(1, end - 1);
    port = text.substr(end + 1);
  } else if (const size_t colon = text.find(':'); colon != absl::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon);
  }
  if (!IsHost(host, bracketed)) {
    return Invalid("its host is not a host name");
  }
  if (!port.empty()) {
    uint32_t number = 0;
    const absl::string_view digits = port.substr(1);
    if (port[0] != ':' || !std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit) ||
        !absl::SimpleAtoi(digits, &number) || number == 0 || number > 65535) {
      return Invalid("its port is not a port number");
    }
    url.port = static_cast<uint16_t>(number);
  }
  url.host = absl::AsciiStrToLower(host);
  return url;
}

absl::StatusOr<Url> ParseUrl(absl::string_view text) {
  if (text.size() > kMaxUrl || !IsVisible(text)) {
    return Invalid("it is too long or holds characters that a URL cannot have");
  }
  const size_t colon = text.find("://");
  if (colon == absl::string_view::npos) {
    return Invalid("it is not absolute");
  }
  const std::string scheme = absl::AsciiStrToLower(text.substr(0, colon));
  if (scheme != "http" && scheme != "https") {
    return Invalid("its scheme is neither http nor https");
  }
  absl::string_view rest = text.substr(colon + 3);
  rest = rest.substr(0, rest.find('#'));
  const size_t slash = std::min(rest.find_first_of("/?"), rest.size());
  const absl::string_view authority = rest.substr(0, slash);
  if (absl::StrContains(authority, '@')) {
    return Invalid("it carries a user name");
  }
  VIBE_ASSIGN_OR_RETURN(Url url, ParseAuthority(authority, scheme == "https"));
  const absl::string_view target = rest.substr(slash);
  url.target = absl::StartsWith(target, "/") ? std::string(target) : absl::StrCat("/", target);
  return url;
}

absl::StatusOr<Url> ResolveUrl(const Url& base, absl::string_view location) {
  if (location.size() > kMaxUrl || !IsVisible(location)) {
    return Invalid("it is too long or holds characters that a URL cannot have");
  }
  if (absl::StartsWith(location, "//")) {
    return ParseUrl(absl::StrCat(base.tls ? "https:" : "http:", location));
  }
  const size_t special = location.find_first_of(":/?#");
  if (special != absl::string_view::npos && location[special] == ':') {
    return ParseUrl(location);
  }
  location = location.substr(0, location.find('#'));
  Url url = base;
  if (absl::StartsWith(location, "/")) {
    url.target = std::string(location);
    return url;
  }
  std::string path = url.target.substr(0, url.target.find('?'));
  if (!location.empty() && location[0] != '?') {
    path.resize(path.rfind('/') + 1);
  }
  url.target = absl::StrCat(path, location);
  return url;
}

std::string EncodeQueryValue(absl::string_view value) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || absl::StrContains("-._~", c)) {
      encoded.push_back(c);
    } else {
      encoded.append({'%', kHex[byte >> 4], kHex[byte & 15]});
    }
  }
  return encoded;
}

bool IsLoopback(absl::string_view host) {
  if (absl::EqualsIgnoreCase(host, "localhost") || host == "::1") {
    return true;
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(host, '.');
  return parts.size() == 4 && parts[0] == "127" &&
         std::all_of(parts.begin(), parts.end(), [](absl::string_view part) {
           uint32_t number = 0;
           return part.size() <= 3 && absl::SimpleAtoi(part, &number) && number <= 255;
         });
}

}  // namespace vibe::http
