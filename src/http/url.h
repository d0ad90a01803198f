// URLs of http and https, as far as a client needs them. Pure and thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::http {

struct Url {
  bool tls = false;
  std::string host;  // lower case; IPv6 without brackets
  uint16_t port = 0;
  std::string target = "/";  // path and query

  std::string Authority() const;  // "host", or "host:port" when the port is not the scheme's own
  std::string Origin() const;     // "https://host:port", for comparing
};

// An absolute URL. InvalidArgument for another scheme, user info, control characters, over 16 KiB.
absl::StatusOr<Url> ParseUrl(absl::string_view text);

// What a Location header means in the answer to `base`: absolute, or relative to it.
absl::StatusOr<Url> ResolveUrl(const Url& base, absl::string_view location);

// "host", "host:port", "[v6]" or "[v6]:port". Without a port it is that of the scheme.
absl::StatusOr<Url> ParseAuthority(absl::string_view text, bool tls);

// A value for a query: everything but letters, digits and "-._~" as %XX.
std::string EncodeQueryValue(absl::string_view value);

// "localhost", 127.0.0.0/8 or ::1.
bool IsLoopback(absl::string_view host);

}  // namespace vibe::http
