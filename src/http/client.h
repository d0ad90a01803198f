// One HTTP/1.1 connection to a server: over a unix socket (vibed's own API), TCP, or TLS checked
// against the system's roots and the host's name. Synchronous.
//
// Threads: a Connection belongs to one thread at a time. While it lives, another thread or a signal
// handler may end whatever it waits for with shutdown(connection.fd(), SHUT_RDWR).
//
// Time: every single wait is bounded by Timeouts, and all waits together by SetTimeLimit().
//
// Errors name the cause only ("connection refused"); the caller knows what it wanted and from whom.
//   Unavailable         nobody answers, the name is unknown, or the connection broke
//   DeadlineExceeded    a time limit passed
//   FailedPrecondition  TLS failed, above all because the certificate is not trusted
//   DataLoss            what came is not HTTP
//   ResourceExhausted   a head, body or line is longer than its limit
//   InvalidArgument     the request cannot be written as HTTP
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace vibe::http {

struct Endpoint {
  enum class Transport { kUnix, kTcp, kTls };

  static Endpoint Unix(std::filesystem::path path);
  static Endpoint Tcp(std::string host, uint16_t port);
  static Endpoint Tls(std::string host, uint16_t port);

  Transport transport = Transport::kTcp;
  std::filesystem::path path;  // of the unix socket
  std::string host;            // a name or an address, IPv6 without brackets
  uint16_t port = 0;
  std::string dial_address;  // dialled in place of `host`, which stays the name in Host and in TLS;
                             // may be empty
};

struct Timeouts {
  absl::Duration connect = absl::Seconds(15);  // name lookup, connection and TLS handshake together
  absl::Duration idle = absl::Seconds(60);     // without a byte; may be infinite, for streams
};

using Headers = std::vector<std::pair<std::string, std::string>>;

// The first value of a header, its name compared without case; empty when there is none.
absl::string_view HeaderValue(const Headers& headers, absl::string_view name);

struct Request {
  std::string method = "GET";
  std::string target = "/";  // path and query, as they go over the wire
  Headers headers;           // Host and Content-Length are added
  std::string body;
};

// The head of an answer. The body is read separately.
struct Response {
  int status = 0;
  Headers headers;
};

// Takes the next bytes of a body, or one line of it; an error ends the transfer and is returned as
// it is.
using BodySink = std::function<absl::Status(absl::string_view bytes)>;
using LineSink = std::function<absl::Status(absl::string_view line)>;

// What an upgraded connection (status 101) turns into.
struct UpgradedStream {
  UniqueFd fd;             // connected, in blocking mode
  std::string read_ahead;  // bytes of the new protocol that arrived with the head
};

class Connection {
 public:
  static absl::StatusOr<std::unique_ptr<Connection>> Connect(const Endpoint& endpoint,
                                                             const Timeouts& timeouts);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Sends a request and reads the head of its answer. Before the next Send the body has to be read
  // to its end. Interim answers (1xx, except 101) are skipped.
  absl::StatusOr<Response> Send(const Request& request);

  // The body, piece by piece as it arrives.
  absl::Status ReadBody(const BodySink& sink);

  // The whole body. ResourceExhausted when it is longer than `max_bytes`.
  absl::StatusOr<std::string> ReadBody(size_t max_bytes);

  // The body as lines, each as soon as it is whole, without its line feed. Empty lines are left
  // out.
  absl::Status ReadLines(size_t max_line_bytes, const LineSink& sink);

  // After status 101: gives away the socket, which ends this connection. Not for TLS.
  absl::StatusOr<UpgradedStream> TakeStream();

  // Whether another request can be sent: the last answer was read whole and the server keeps the
  // connection open. It may still close it at any moment, and Send then says Unavailable.
  bool reusable() const;

  // All waits from now on end within `limit`, which replaces an earlier limit. Infinite takes it
  // away.
  void SetTimeLimit(absl::Duration limit);

  int fd() const;  // -1 after TakeStream

 private:
  struct State;
  explicit Connection(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace vibe::http
