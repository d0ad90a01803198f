#include "host/http_connection.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cerrno>
#include <climits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0  // macOS: SO_NOSIGPIPE is set on the socket instead
#endif

namespace vibe::host {
namespace {

namespace http = boost::beast::http;

constexpr size_t kReadBytes = 64 << 10;

std::string StdString(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace

std::optional<std::string> HttpRequest::Header(absl::string_view name) const {
  const auto found = std::find_if(headers.begin(), headers.end(), [&](const auto& header) {
    return absl::EqualsIgnoreCase(header.first, name);
  });
  return found == headers.end() ? std::nullopt : std::optional<std::string>(found->second);
}

HttpConnection::HttpConnection(UniqueFd fd, Headers headers, Timeouts timeouts)
    : fd_(std::move(fd)), headers_(std::move(headers)), timeouts_(timeouts) {
  ::fcntl(fd_.get(), F_SETFL, ::fcntl(fd_.get(), F_GETFL) | O_NONBLOCK);
#ifdef SO_NOSIGPIPE
  const int on = 1;
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
}

absl::Status HttpConnection::Wait(short events, absl::Time deadline) const {
  while (true) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError("the client is too slow");
    }
    const int64_t milliseconds = absl::ToInt64Milliseconds(left + absl::Milliseconds(1));
    pollfd entry{fd_.get(), events, 0};
    const int count = ::poll(&entry, 1, static_cast<int>(std::min<int64_t>(milliseconds, INT_MAX)));
    if (count > 0) {
      return absl::OkStatus();
    }
    if (count < 0 && errno != EINTR) {
      return ErrnoError(errno, "poll");
    }
  }
}

absl::StatusOr<bool> HttpConnection::Fill(absl::Time deadline) {
  while (true) {
    const auto space = buffer_.prepare(kReadBytes);
    const ssize_t count = ::recv(fd_.get(), space.data(), space.size(), 0);
    if (count > 0) {
      buffer_.commit(static_cast<size_t>(count));
      return true;
    }
    if (count == 0 || errno == ECONNRESET) {
      return false;
    }
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
      return ErrnoError(errno, "read");
    }
    VIBE_RETURN_IF_ERROR(Wait(POLLIN, deadline));
  }
}

absl::StatusOr<std::optional<HttpRequest>> HttpConnection::ReadRequest() {
  http_status_ = 400;
  if (buffer_.size() == 0) {
    const absl::StatusOr<bool> more = Fill(absl::Now() + timeouts_.idle);
    if (!more.ok() || !*more) {
      return std::optional<HttpRequest>();  // nothing was asked, so nothing has to be said
    }
  }
  const absl::Time deadline = absl::Now() + timeouts_.request;
  http::request_parser<http::string_body> parser;
  parser.header_limit(static_cast<uint32_t>(kMaxHeadBytes));
  parser.body_limit(kMaxBodyBytes);
  parser.eager(true);
  bool told_to_continue = false;
  while (true) {
    boost::system::error_code error;
    buffer_.consume(parser.put(buffer_.data(), error));
    if (parser.is_done()) {
      break;
    }
    if (error && error != http::error::need_more) {
      http_status_ = error == http::error::header_limit ? 431
                     : error == http::error::body_limit ? 413
                                                        : 400;
      return absl::InvalidArgumentError(
          http_status_ == 400 ? absl::StrCat("the request is not HTTP/1.1: ", error.message())
                              : "the request is longer than allowed");
    }
    if (parser.is_header_done() && !told_to_continue &&
        absl::EqualsIgnoreCase(StdString(parser.get()[http::field::expect]), "100-continue")) {
      told_to_continue = true;
      VIBE_RETURN_IF_ERROR(WriteBytes("HTTP/1.1 100 Continue\r\n\r\n", timeouts_.write));
    }
    http_status_ = 408;
    VIBE_ASSIGN_OR_RETURN(const bool more, Fill(deadline));
    if (!more) {
      return std::optional<HttpRequest>();
    }
  }
  const auto& message = parser.get();
  HttpRequest request;
  request.method = StdString(message.method_string());
  request.target = StdString(message.target());
  for (const auto& field : message) {
    request.headers.emplace_back(StdString(field.name_string()), StdString(field.value()));
  }
  request.body = message.body();
  request.keep_alive = message.keep_alive();
  return std::optional<HttpRequest>(std::move(request));
}

std::string HttpConnection::Head(int status, const Headers& headers) const {
  const auto reason = http::obsolete_reason(static_cast<http::status>(status));
  std::string head = absl::StrCat("HTTP/1.1 ", status, " ", StdString(reason), "\r\n");
  for (const Headers* list : {&headers_, &headers}) {
    for (const auto& [name, value] : *list) {
      absl::StrAppend(&head, name, ": ", value, "\r\n");
    }
  }
  return head + "\r\n";
}

absl::Status HttpConnection::Respond(int status, absl::string_view content_type,
                                     absl::string_view body, bool keep_alive,
                                     const Headers& headers) {
  Headers all = headers;
  all.emplace_back("Content-Type", std::string(content_type));
  all.emplace_back("Content-Length", absl::StrCat(body.size()));
  if (!keep_alive) {
    all.emplace_back("Connection", "close");
  }
  return WriteBytes(absl::StrCat(Head(status, all), body), timeouts_.write);
}

absl::Status HttpConnection::StartChunks(absl::string_view content_type) {
  return WriteBytes(Head(200, {{"Content-Type", std::string(content_type)},
                               {"Transfer-Encoding", "chunked"},
                               {"Connection", "close"}}),
                    timeouts_.write);
}

absl::Status HttpConnection::WriteChunk(absl::string_view bytes, absl::Duration patience) {
  return WriteBytes(absl::StrCat(absl::Hex(bytes.size()), "\r\n", bytes, "\r\n"), patience);
}

absl::Status HttpConnection::EndChunks() {
  return WriteBytes("0\r\n\r\n", timeouts_.write);
}

absl::Status HttpConnection::SwitchProtocol(absl::string_view protocol) {
  return WriteBytes(Head(101, {{"Connection", "Upgrade"}, {"Upgrade", std::string(protocol)}}),
                    timeouts_.write);
}

bool HttpConnection::Writable() const {
  pollfd entry{fd_.get(), POLLOUT, 0};
  return ::poll(&entry, 1, 0) == 1 && (entry.revents & POLLOUT) != 0;
}

absl::StatusOr<std::string> HttpConnection::ReadBytes() {
  if (buffer_.size() == 0) {
    VIBE_ASSIGN_OR_RETURN(const bool more, Fill(absl::InfiniteFuture()));
    if (!more) {
      return std::string();
    }
  }
  const auto data = buffer_.cdata();
  std::string bytes(static_cast<const char*>(data.data()), data.size());
  buffer_.consume(bytes.size());
  return bytes;
}

absl::Status HttpConnection::WriteBytes(absl::string_view bytes, absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  while (!bytes.empty()) {
    const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count >= 0) {
      bytes.remove_prefix(static_cast<size_t>(count));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      VIBE_RETURN_IF_ERROR(Wait(POLLOUT, deadline));
    } else if (errno != EINTR) {
      return absl::UnavailableError("the client is gone");
    }
  }
  return absl::OkStatus();
}

void HttpConnection::Shutdown() const {
  ::shutdown(fd_.get(), SHUT_RDWR);
}

}  // namespace vibe::host
