#include "http/client.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unix_socket.h"
#include "http/socket_stream.h"
#include "http/tls_stream.h"

namespace vibe::http {
namespace {

namespace beast = boost::beast;
using boost::system::error_code;

constexpr uint32_t kMaxHead = 64 << 10;
constexpr size_t kReadSize = 64 << 10;
constexpr size_t kWriteSize = 16 << 10;
constexpr int kMaxInterim = 8;  // 1xx answers before the real one

// A ByteStream in the shape that Beast's synchronous algorithms take. Keeps the Status that an
// error code cannot carry.
class BeastStream {
 public:
  explicit BeastStream(ByteStream* stream) : stream_(stream) {}

  template <typename Buffers>
  size_t read_some(const Buffers& buffers, error_code& error) {
    const boost::asio::mutable_buffer buffer = *boost::asio::buffer_sequence_begin(buffers);
    error = {};
    return Result(stream_->ReadSome(static_cast<char*>(buffer.data()), buffer.size()), error);
  }

  template <typename Buffers>
  size_t write_some(const Buffers& buffers, error_code& error) {
    error = {};
    // A message comes as many small buffers; one by one they would be as many packets.
    std::string gathered(std::min(boost::asio::buffer_size(buffers), kWriteSize), '\0');
    boost::asio::buffer_copy(boost::asio::buffer(gathered), buffers);
    if (gathered.empty()) {
      return 0;
    }
    return Result(stream_->WriteSome(gathered.data(), gathered.size()), error);
  }

  // Beast's concept of a stream asks for these; only the forms above are called.
  template <typename Buffers>
  size_t read_some(const Buffers& buffers) {
    error_code error;
    return read_some(buffers, error);
  }
  template <typename Buffers>
  size_t write_some(const Buffers& buffers) {
    error_code error;
    return write_some(buffers, error);
  }

  const absl::Status& failure() const { return failure_; }

 private:
  size_t Result(const absl::StatusOr<size_t>& count, error_code& error) {
    if (!count.ok()) {
      failure_ = count.status();
      error = boost::asio::error::broken_pipe;
      return 0;
    }
    if (*count == 0) {
      error = boost::asio::error::eof;
    }
    return *count;
  }

  ByteStream* stream_;
  absl::Status failure_;
};

bool IsToken(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || absl::StrContains("!#$%&'*+-.^_`|~", static_cast<char>(c));
  });
}

// What could end a line early would let a value smuggle in a header or a request.
absl::Status CheckRequest(const Request& request) {
  const auto is_visible = [](char c) { return c > ' ' && c != 0x7f; };
  const auto ends_line = [](char c) { return c == '\r' || c == '\n' || c == '\0'; };
  if (!IsToken(request.method) || request.target.empty() ||
      !std::all_of(request.target.begin(), request.target.end(), is_visible)) {
    return absl::InvalidArgumentError("the request's method or target is not valid");
  }
  for (const auto& [name, value] : request.headers) {
    if (!IsToken(name) || std::any_of(value.begin(), value.end(), ends_line)) {
      return absl::InvalidArgumentError("a header of the request is not valid");
    }
  }
  return absl::OkStatus();
}

std::string HostHeader(const Endpoint& endpoint) {
  if (endpoint.transport == Endpoint::Transport::kUnix) {
    return "localhost";
  }
  const uint16_t usual = endpoint.transport == Endpoint::Transport::kTls ? 443 : 80;
  const std::string host =
      absl::StrContains(endpoint.host, ':') ? absl::StrCat("[", endpoint.host, "]") : endpoint.host;
  return endpoint.port == usual ? host : absl::StrCat(host, ":", endpoint.port);
}

absl::StatusOr<UniqueFd> OpenSocket(const Endpoint& endpoint, const Deadline& deadline) {
  if (endpoint.transport == Endpoint::Transport::kUnix) {
    VIBE_ASSIGN_OR_RETURN(UniqueFd fd, ConnectUnix(endpoint.path));
    VIBE_RETURN_IF_ERROR(SetBlocking(fd.get(), false));
    return fd;
  }
  return ConnectTcp(endpoint.dial_address.empty() ? endpoint.host : endpoint.dial_address,
                    endpoint.port, deadline);
}

}  // namespace

Endpoint Endpoint::Unix(std::filesystem::path path) {
  Endpoint endpoint;
  endpoint.transport = Transport::kUnix;
  endpoint.path = std::move(path);
  return endpoint;
}

Endpoint Endpoint::Tcp(std::string host, uint16_t port) {
  Endpoint endpoint;
  endpoint.transport = Transport::kTcp;
  endpoint.host = std::move(host);
  endpoint.port = port;
  return endpoint;
}

Endpoint Endpoint::Tls(std::string host, uint16_t port) {
  Endpoint endpoint = Tcp(std::move(host), port);
  endpoint.transport = Transport::kTls;
  return endpoint;
}

absl::string_view HeaderValue(const Headers& headers, absl::string_view name) {
  for (const auto& [key, value] : headers) {
    if (absl::EqualsIgnoreCase(key, name)) {
      return value;
    }
  }
  return {};
}

struct Connection::State {
  State(UniqueFd fd, const Timeouts& timeouts) : socket(std::move(fd), timeouts.idle) {
    input.reserve(kReadSize);
  }

  void Use(ByteStream* stream) { wire.emplace(stream); }

  absl::Status Cause(const error_code& error) const {
    namespace http = beast::http;
    if (!wire->failure().ok()) {
      return wire->failure();
    }
    if (error == http::error::end_of_stream || error == http::error::partial_message ||
        error == boost::asio::error::eof) {
      return absl::UnavailableError("the connection was closed before the answer was whole");
    }
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
      return absl::ResourceExhaustedError("the head of the answer is too long");
    }
    return absl::DataLossError(absl::StrCat("the answer is not HTTP (", error.message(), ")"));
  }

  absl::Status Write(const Request& request) {
    beast::http::request<beast::http::string_body> message;
    message.version(11);
    message.method_string(request.method);
    message.target(request.target);
    for (const auto& [name, value] : request.headers) {
      message.insert(name, value);
    }
    if (message.find(beast::http::field::host) == message.end()) {
      message.set(beast::http::field::host, host);
    }
    message.body() = request.body;
    if (!request.body.empty() || (request.method != "GET" && request.method != "HEAD")) {
      message.content_length(request.body.size());
    }
    error_code error;
    beast::http::write(*wire, message, error);
    return error ? Cause(error) : absl::OkStatus();
  }

  absl::Status ReadHead(bool head_only) {
    for (int i = 0; i < kMaxInterim; ++i) {
      parser.emplace();
      parser->header_limit(kMaxHead);
      parser->body_limit(boost::none);
      parser->skip(head_only);
      error_code error;
      beast::http::read_header(*wire, input, *parser, error);
      if (error) {
        return Cause(error);
      }
      const unsigned status = parser->get().result_int();
      if (status / 100 != 1 || status == 101) {
        return absl::OkStatus();
      }
    }
    return absl::DataLossError("the server sends interim answers without end");
  }

  bool Reusable() const {
    return socket.fd() >= 0 && intact &&
           (!parser || (parser->is_done() && parser->keep_alive() && input.size() == 0 &&
                        parser->get().result_int() != 101));
  }

  SocketStream socket;
  std::unique_ptr<ByteStream> tls;  // over `socket`; null without TLS
  std::optional<BeastStream> wire;
  std::string host;  // for the Host header
  beast::flat_buffer input{kMaxHead + kReadSize};
  std::optional<beast::http::response_parser<beast::http::buffer_body>>
      parser;          // of the last answer
  bool intact = true;  // no error so far
};

Connection::Connection(std::unique_ptr<State> state) : state_(std::move(state)) {}
Connection::~Connection() = default;

absl::StatusOr<std::unique_ptr<Connection>> Connection::Connect(const Endpoint& endpoint,
                                                                const Timeouts& timeouts) {
  const Deadline deadline = Deadline::After(timeouts.connect);
  VIBE_ASSIGN_OR_RETURN(UniqueFd fd, OpenSocket(endpoint, deadline));
  auto state = std::make_unique<State>(std::move(fd), timeouts);
  state->host = HostHeader(endpoint);
  state->Use(&state->socket);
  if (endpoint.transport == Endpoint::Transport::kTls) {
    state->socket.SetDeadline(deadline);
    VIBE_ASSIGN_OR_RETURN(state->tls, StartTls(&state->socket, endpoint.host));
    state->socket.SetDeadline(Deadline());
    state->Use(state->tls.get());
  }
  return std::unique_ptr<Connection>(new Connection(std::move(state)));
}

absl::StatusOr<Response> Connection::Send(const Request& request) {
  VIBE_RETURN_IF_ERROR(CheckRequest(request));
  if (!state_->Reusable()) {
    return absl::FailedPreconditionError("this connection cannot take another request");
  }
  state_->intact = false;
  VIBE_RETURN_IF_ERROR(state_->Write(request));
  VIBE_RETURN_IF_ERROR(state_->ReadHead(request.method == "HEAD"));
  state_->intact = true;
  Response response;
  const auto& head = state_->parser->get();
  response.status = static_cast<int>(head.result_int());
  for (const auto& field : head) {
    response.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  return response;
}

absl::Status Connection::ReadBody(const BodySink& sink) {
  if (!state_->intact || !state_->parser) {
    return absl::FailedPreconditionError("there is no body to read");
  }
  auto& parser = *state_->parser;
  std::string piece(kReadSize, '\0');
  state_->intact = false;
  while (!parser.is_done()) {
    auto& body = parser.get().body();
    body.data = piece.data();
    body.size = piece.size();
    error_code error;
    beast::http::read_some(*state_->wire, state_->input, parser, error);
    const size_t count = piece.size() - body.size;
    // Bytes that arrived before an error count: they are what a later attempt can go on from.
    if (count > 0) {
      VIBE_RETURN_IF_ERROR(sink(absl::string_view(piece.data(), count)));
    }
    if (error && error != beast::http::error::need_buffer) {
      return state_->Cause(error);
    }
  }
  state_->intact = true;
  return absl::OkStatus();
}

absl::StatusOr<std::string> Connection::ReadBody(size_t max_bytes) {
  std::string body;
  const BodySink append = [&](absl::string_view bytes) -> absl::Status {
    if (bytes.size() > max_bytes - body.size()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the answer is longer than ", max_bytes, " bytes"));
    }
    absl::StrAppend(&body, bytes);
    return absl::OkStatus();
  };
  VIBE_RETURN_IF_ERROR(ReadBody(append));
  return body;
}

absl::Status Connection::ReadLines(size_t max_line_bytes, const LineSink& sink) {
  std::string line;
  const auto finish_line = [&] {
    const absl::Status status = line.empty() ? absl::OkStatus() : sink(line);
    line.clear();
    return status;
  };
  const BodySink split = [&](absl::string_view bytes) -> absl::Status {
    while (!bytes.empty()) {
      const size_t end = bytes.find('\n');
      const absl::string_view part = bytes.substr(0, end);
      if (part.size() > max_line_bytes - line.size()) {
        return absl::ResourceExhaustedError(
            absl::StrCat("a line of the answer is longer than ", max_line_bytes, " bytes"));
      }
      absl::StrAppend(&line, part);
      if (end == absl::string_view::npos) {
        return absl::OkStatus();
      }
      VIBE_RETURN_IF_ERROR(finish_line());
      bytes.remove_prefix(end + 1);
    }
    return absl::OkStatus();
  };
  VIBE_RETURN_IF_ERROR(ReadBody(split));
  return finish_line();
}

absl::StatusOr<UpgradedStream> Connection::TakeStream() {
  if (state_->tls != nullptr || !state_->intact || !state_->parser ||
      state_->parser->get().result_int() != 101) {
    return absl::FailedPreconditionError("the server has not switched the protocol");
  }
  VIBE_RETURN_IF_ERROR(SetBlocking(state_->socket.fd(), true));
  UpgradedStream stream;
  const auto rest = state_->input.data();
  stream.read_ahead.assign(static_cast<const char*>(rest.data()), rest.size());
  stream.fd = state_->socket.Release();
  state_->intact = false;
  return stream;
}

bool Connection::reusable() const {
  return state_->Reusable();
}

void Connection::SetTimeLimit(absl::Duration limit) {
  state_->socket.SetDeadline(Deadline::After(limit));
}

int Connection::fd() const {
  return state_->socket.fd();
}

}  // namespace vibe::http
