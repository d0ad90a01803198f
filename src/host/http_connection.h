// The server's side of one HTTP/1.1 connection. One thread reads; writing is as each function says.
// Every wait is bounded, unless said otherwise, and ends when the socket is shut down.
#pragma once

#include <boost/beast/core/flat_buffer.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace vibe::host {

struct HttpRequest {
  std::string method;
  std::string target;  // path and query as they came
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  bool keep_alive = true;

  std::optional<std::string> Header(
      absl::string_view name) const;  // the first one; names have no case
};

class HttpConnection {
 public:
  static constexpr size_t kMaxHeadBytes = 16 << 10;
  static constexpr size_t kMaxBodyBytes = 1 << 20;
  using Headers = std::vector<std::pair<std::string, std::string>>;

  struct Timeouts {
    absl::Duration idle = absl::Seconds(60);     // for a request to begin
    absl::Duration request = absl::Seconds(30);  // from its first byte to its last
    absl::Duration write = absl::Seconds(30);    // for a client to take an answer
  };

  // `headers` are sent with every answer.
  HttpConnection(UniqueFd fd, Headers headers, Timeouts timeouts);

  // nullopt: the client closed, or had nothing to ask for. On an error, http_status() is what to
  // answer with.
  absl::StatusOr<std::optional<HttpRequest>> ReadRequest();
  int http_status() const { return http_status_; }

  // A whole answer. `keep_alive` false also tells the client so.
  absl::Status Respond(int status, absl::string_view content_type, absl::string_view body,
                       bool keep_alive, const Headers& headers = {});
  // An answer in chunks: the head, then any number of pieces, then the end.
  absl::Status StartChunks(absl::string_view content_type);
  absl::Status WriteChunk(absl::string_view bytes, absl::Duration patience);
  absl::Status EndChunks();
  // Status 101. From here on there are only bytes.
  absl::Status SwitchProtocol(absl::string_view protocol);

  // Whether a small write would not wait now.
  bool Writable() const;
  // Up to 64 KiB, what had been read ahead first; empty at the end. Waits for ever.
  absl::StatusOr<std::string> ReadBytes();
  absl::Status WriteBytes(absl::string_view bytes, absl::Duration patience);

  int fd() const { return fd_.get(); }
  void Shutdown() const;  // from any thread

 private:
  absl::StatusOr<bool> Fill(absl::Time deadline);  // false: the client closed
  absl::Status Wait(short events, absl::Time deadline) const;
  std::string Head(int status, const Headers& headers) const;

  const UniqueFd fd_;
  const Headers headers_;
  const Timeouts timeouts_;
  boost::beast::flat_buffer buffer_;
  int http_status_ = 400;
};

}  // namespace vibe::host
