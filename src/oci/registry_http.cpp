#include "oci/registry_http.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace vibe::oci {
namespace {

constexpr int kMaxRedirects = 10;
constexpr size_t kMaxIdle = 4;
constexpr size_t kMaxDrain = 64 << 10;  // beyond it a new connection is cheaper
constexpr size_t kMaxTokenDocument = 1 << 20;

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

std::string ApiHost(const std::string& registry) {
  return registry == "docker.io" ? "registry-1.docker.io" : registry;
}

bool Contains(const std::vector<std::string>& list, absl::string_view text) {
  return std::any_of(list.begin(), list.end(),
                     [&](const std::string& entry) { return absl::EqualsIgnoreCase(entry, text); });
}

absl::StatusOr<http::Url> RegistryUrl(const Reference& reference, const RegistryOptions& options) {
  const std::string host = ApiHost(reference.registry);
  VIBE_ASSIGN_OR_RETURN(http::Url url, http::ParseAuthority(host, /*tls=*/true));
  if (http::IsLoopback(url.host) || Contains(options.plain_http, host)) {
    return http::ParseAuthority(host, /*tls=*/false);
  }
  return url;
}

}  // namespace

RegistryHttp::RegistryHttp(const Reference& reference, const RegistryOptions& options)
    : reference_(reference), options_(options), registry_(RegistryUrl(reference, options)) {}

absl::StatusOr<Answer> RegistryHttp::Get(const std::string& path, const http::Headers& headers) {
  if (!registry_.ok()) {
    return registry_.status();
  }
  http::Url url = *registry_;
  url.target = path;
  VIBE_ASSIGN_OR_RETURN(Answer answer, Follow(url, headers, authorization_));
  if (answer.head.status != 401 || answer.url.Origin() != url.Origin()) {
    return answer;
  }
  const std::string refused = authorization_;
  VIBE_RETURN_IF_ERROR(Authenticate(answer.head.headers));
  if (authorization_.empty() || authorization_ == refused) {
    return answer;
  }
  Drain(std::move(answer));
  return Follow(url, headers, authorization_);
}

void RegistryHttp::Keep(Answer answer) {
  if (answer.connection->reusable() && idle_.size() < kMaxIdle) {
    answer.connection->SetTimeLimit(absl::InfiniteDuration());
    idle_[answer.url.Origin()] = std::move(answer.connection);
  }
}

void RegistryHttp::Drain(Answer answer) {
  if (answer.connection->ReadBody(kMaxDrain).ok()) {
    Keep(std::move(answer));
  }
}

// GET with redirects. The authorization goes to the first URL's own origin and nowhere else.
absl::StatusOr<Answer> RegistryHttp::Follow(http::Url url, const http::Headers& headers,
                                            const std::string& authorization) {
  const std::string origin = url.Origin();
  for (int hop = 0; hop <= kMaxRedirects; ++hop) {
    http::Request request;
    request.target = url.target;
    request.headers = headers;
    request.headers.emplace_back("User-Agent", "vibe");
    if (!authorization.empty() && url.Origin() == origin) {
      request.headers.emplace_back("Authorization", authorization);
    }
    VIBE_ASSIGN_OR_RETURN(Answer answer, Exchange(url, request));
    if (!IsRedirect(answer.head.status)) {
      return answer;
    }
    const absl::StatusOr<http::Url> next =
        http::ResolveUrl(url, http::HeaderValue(answer.head.headers, "Location"));
    if (!next.ok()) {
      return absl::DataLossError(absl::StrCat(
          Name(url), " redirects to where nothing can be fetched (", next.status().message(), ")"));
    }
    if (url.tls && !next->tls && !http::IsLoopback(next->host)) {
      return absl::FailedPreconditionError(
          absl::StrCat(Name(url), " redirects from https to plain http at ", next->Authority()));
    }
    Drain(std::move(answer));
    url = *next;
  }
  return absl::DataLossError(absl::StrCat(Name(url), " redirects without end"));
}

absl::StatusOr<std::unique_ptr<http::Connection>> RegistryHttp::Connect(
    const http::Url& url) const {
  http::Endpoint endpoint =
      url.tls ? http::Endpoint::Tls(url.host, url.port) : http::Endpoint::Tcp(url.host, url.port);
  if (http::IsLoopback(url.host)) {
    endpoint.dial_address = options_.host_gateway;
  }
  absl::StatusOr<std::unique_ptr<http::Connection>> connection =
      http::Connection::Connect(endpoint, {options_.connect_timeout, options_.read_timeout});
  if (!connection.ok() && connection.status().code() != absl::StatusCode::kFailedPrecondition) {
    return absl::Status(
        connection.status().code(),
        absl::StrCat(Name(url), " does not answer (", connection.status().message(), ")"));
  }
  return connection.ok() ? std::move(connection) : Annotate(connection.status(), Name(url));
}

absl::StatusOr<Answer> RegistryHttp::Exchange(const http::Url& url, const http::Request& request) {
  Answer answer;
  answer.url = url;
  if (auto idle = idle_.extract(url.Origin()); !idle.empty()) {
    answer.connection = std::move(idle.mapped());
    answer.connection->SetTimeLimit(options_.read_timeout);
    absl::StatusOr<http::Response> head = answer.connection->Send(request);
    if (head.ok()) {
      answer.head = *std::move(head);
      return answer;
    }
    // Most likely the server closed it meanwhile. A GET may be sent twice.
  }
  VIBE_ASSIGN_OR_RETURN(answer.connection, Connect(url));
  answer.connection->SetTimeLimit(options_.read_timeout);
  absl::StatusOr<http::Response> head = answer.connection->Send(request);
  if (!head.ok()) {
    return Annotate(head.status(), Name(url));
  }
  answer.head = *std::move(head);
  return answer;
}

absl::Status RegistryHttp::Authenticate(const http::Headers& headers) {
  bool basic = false;
  for (const auto& [name, value] : headers) {
    if (!absl::EqualsIgnoreCase(name, "WWW-Authenticate")) {
      continue;
    }
    for (const Challenge& challenge : ParseChallenges(value)) {
      if (challenge.scheme == "bearer" && challenge.parameters.count("realm") > 0) {
        return FetchToken(challenge);
      }
      basic = basic || challenge.scheme == "basic";
    }
  }
  if (basic && !options_.username.empty()) {
    authorization_ = BasicAuthorization();
  }
  return absl::OkStatus();
}

absl::Status RegistryHttp::FetchToken(const Challenge& challenge) {
  const auto parameter = [&](const char* name) {
    const auto found = challenge.parameters.find(name);
    return found == challenge.parameters.end() ? std::string() : found->second;
  };
  absl::StatusOr<http::Url> url = http::ParseUrl(parameter("realm"));
  if (!url.ok()) {
    return Annotate(url.status(), absl::StrCat(Name(*registry_), " names a token server"));
  }
  if (registry_->tls && !url->tls && !http::IsLoopback(url->host)) {
    return absl::FailedPreconditionError(absl::StrCat(
        Name(*registry_), " sends us for a token to plain http at ", url->Authority()));
  }
  std::string scope = parameter("scope");
  if (scope.empty()) {
    scope = absl::StrCat("repository:", reference_.repository, ":pull");
  }
  absl::StrAppend(&url->target, absl::StrContains(url->target, '?') ? "&" : "?",
                  "scope=", http::EncodeQueryValue(scope));
  if (const std::string service = parameter("service"); !service.empty()) {
    absl::StrAppend(&url->target, "&service=", http::EncodeQueryValue(service));
  }
  const bool private_line = url->tls || AllowsPlain(*url);
  VIBE_ASSIGN_OR_RETURN(Answer answer, Follow(*url, {{"Accept", "application/json"}},
                                              private_line ? BasicAuthorization() : ""));
  if (answer.head.status != 200) {
    const int status = answer.head.status;
    const std::string text = absl::StrCat("the token server ", url->host, " answered ", status);
    return status == 429 || status >= 500 ? absl::UnavailableError(text)
                                          : absl::UnauthenticatedError(text);
  }
  answer.connection->SetTimeLimit(options_.read_timeout);
  absl::StatusOr<std::string> body = answer.connection->ReadBody(kMaxTokenDocument);
  if (!body.ok()) {
    return Annotate(body.status(), Name(*url));
  }
  Keep(std::move(answer));
  VIBE_ASSIGN_OR_RETURN(const std::string token, ParseToken(*body));
  authorization_ = absl::StrCat("Bearer ", token);
  return absl::OkStatus();
}

bool RegistryHttp::AllowsPlain(const http::Url& url) const {
  return http::IsLoopback(url.host) || Contains(options_.plain_http, url.Authority()) ||
         Contains(options_.plain_http, absl::StrCat(url.host, ":", url.port));
}

std::string RegistryHttp::Name(const http::Url& url) const {
  return url.Origin() == registry_->Origin() ? absl::StrCat("registry ", reference_.registry)
                                             : url.Authority();
}

std::string RegistryHttp::BasicAuthorization() const {
  if (options_.username.empty()) {
    return {};
  }
  return absl::StrCat("Basic ",
                      absl::Base64Escape(absl::StrCat(options_.username, ":", options_.password)));
}

}  // namespace vibe::oci
