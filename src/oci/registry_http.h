// HTTP as registries speak it: connections that are kept, redirects, challenges, tokens. One
// attempt each; retries are the caller's. One thread. Inside this folder only.
//
// Errors: those of http/client.h with the host's name before them, and Unauthenticated when a token
// server refuses. A token or a password appears in no message.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "http/client.h"
#include "http/url.h"
#include "oci/auth.h"
#include "oci/reference.h"
#include "oci/registry.h"

namespace vibe::oci {

// The head of an answer, and the connection from which its body can be read.
struct Answer {
  http::Url url;  // after redirects
  http::Response head;
  std::unique_ptr<http::Connection> connection;
};

class RegistryHttp {
 public:
  RegistryHttp(const Reference& reference, const RegistryOptions& options);

  // GETs a path of the registry, such as "/v2/x/manifests/latest". The answer may have any status
  // but a redirect.
  absl::StatusOr<Answer> Get(const std::string& path, const http::Headers& headers);

  // Keeps the connection for the next request, if its body was read whole.
  void Keep(Answer answer);

 private:
  absl::StatusOr<Answer> Follow(http::Url url, const http::Headers& headers,
                                const std::string& authorization);
  absl::StatusOr<Answer> Exchange(const http::Url& url, const http::Request& request);
  absl::StatusOr<std::unique_ptr<http::Connection>> Connect(const http::Url& url) const;
  absl::Status Authenticate(const http::Headers& headers);
  absl::Status FetchToken(const Challenge& challenge);
  void Drain(Answer answer);
  bool AllowsPlain(const http::Url& url) const;
  std::string Name(const http::Url& url) const;
  std::string BasicAuthorization() const;

  const Reference reference_;
  const RegistryOptions options_;
  absl::StatusOr<http::Url> registry_;
  std::string authorization_;  // for the registry's own origin only; secret
  std::map<std::string, std::unique_ptr<http::Connection>> idle_;  // by origin
};

}  // namespace vibe::oci
