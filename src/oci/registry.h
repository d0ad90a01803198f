// A registry over HTTP API v2 (distribution-spec 1.1) as an ImageSource: TLS checked against the
// system's roots, bearer tokens and basic auth, redirects, ranges, retries with backoff on 5xx and
// broken connections. Plain HTTP only for loopback and for hosts named in `plain_http`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "oci/image_source.h"
#include "oci/reference.h"

namespace vibe::oci {

struct RegistryOptions {
  // "localhost" and "127.0.0.1" in a reference mean the user's computer. In the machine that is
  // another address (the NAT gateway); empty: connect to loopback itself.
  std::string host_gateway;
  std::vector<std::string> plain_http;  // "host:port" that speak HTTP
  absl::Duration connect_timeout = absl::Seconds(15);
  absl::Duration read_timeout = absl::Seconds(60);  // without a byte
  int attempts = 3;
  std::string
      username;  // empty: anonymous. Given to this registry and to the token server it names
  std::string password;
};

// Errors of the source: NotFound (no such image), Unavailable (registry down; names the host),
// Unauthenticated/PermissionDenied, DataLoss (digest or length wrong). All say the reference.
std::unique_ptr<ImageSource> OpenRegistry(const Reference& reference,
                                          const RegistryOptions& options);

}  // namespace vibe::oci
