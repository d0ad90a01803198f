#include "scripted_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/unique_fd.h"
#include "base/unix_socket.h"

namespace vibe::testing {

std::string SeenRequest::Header(const std::string& name) const {
  for (const absl::string_view line : absl::StrSplit(head, "\r\n")) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(": ", 1));
    if (parts.size() == 2 && absl::EqualsIgnoreCase(parts[0], name)) {
      return parts[1];
    }
  }
  return {};
}

ScriptedReply Reply(int status, const std::string& body, const std::vector<std::string>& headers) {
  ScriptedReply reply;
  reply.bytes =
      absl::StrCat("HTTP/1.1 ", status, " Scripted\r\nContent-Length: ", body.size(), "\r\n");
  for (const std::string& header : headers) {
    absl::StrAppend(&reply.bytes, header, "\r\n");
  }
  absl::StrAppend(&reply.bytes, "\r\n", body);
  return reply;
}

struct ScriptedServer::State {
  Handler handler;
  UniqueFd listener;
  uint16_t port = 0;
  std::atomic<bool> stopping{false};
  std::thread acceptor;
  mutable std::mutex mutex;
  std::vector<SeenRequest> seen;
  std::vector<std::thread> workers;

  bool Readable(int fd) const {
    while (!stopping) {
      pollfd entry{fd, POLLIN, 0};
      if (::poll(&entry, 1, 10) > 0) {
        return true;
      }
    }
    return false;
  }

  void Accept() {
    for (int number = 0; Readable(listener.get()); ++number) {
      const int fd = ::accept(listener.get(), nullptr, nullptr);
      if (fd >= 0) {
        const std::lock_guard<std::mutex> lock(mutex);
        workers.emplace_back([this, fd, number] { Serve(UniqueFd(fd), number); });
      }
    }
  }

  bool Fill(int fd, std::string& input, size_t size) const {
    while (input.size() < size) {
      char buffer[4096];
      const ssize_t count = Readable(fd) ? ::recv(fd, buffer, sizeof buffer, 0) : 0;
      if (count <= 0) {
        return false;
      }
      input.append(buffer, static_cast<size_t>(count));
    }
    return true;
  }

  bool ReadRequest(int fd, std::string& input, SeenRequest& request) const {
    size_t end = 0;
    while ((end = input.find("\r\n\r\n")) == std::string::npos) {
      if (!Fill(fd, input, input.size() + 1)) {
        return false;
      }
    }
    request.head = input.substr(0, end);
    input.erase(0, end + 4);
    const std::vector<std::string> words =
        absl::StrSplit(request.head.substr(0, request.head.find("\r\n")), ' ');
    request.method = words[0];
    request.target = words.size() > 1 ? words[1] : "";
    size_t length = 0;
    if (absl::SimpleAtoi(request.Header("Content-Length"), &length)) {
      if (!Fill(fd, input, length)) {
        return false;
      }
      request.body = input.substr(0, length);
      input.erase(0, length);
    }
    return true;
  }

  void Send(int fd, const ScriptedReply& reply) const {
    const size_t step = reply.pause_milliseconds > 0 ? 1 : reply.bytes.size();
    for (size_t sent = 0; sent < reply.bytes.size() && !stopping;) {
      const size_t wanted = std::min(step, reply.bytes.size() - sent);
      const ssize_t count = ::send(fd, reply.bytes.data() + sent, wanted, MSG_NOSIGNAL);
      if (count <= 0) {
        return;
      }
      sent += static_cast<size_t>(count);
      std::this_thread::sleep_for(std::chrono::milliseconds(reply.pause_milliseconds));
    }
  }

  void Serve(UniqueFd fd, int number) {
    std::string input;
    while (!stopping) {
      SeenRequest request;
      request.connection = number;
      if (!ReadRequest(fd.get(), input, request)) {
        return;
      }
      {
        const std::lock_guard<std::mutex> lock(mutex);
        seen.push_back(request);
      }
      const ScriptedReply reply = handler(request);
      Send(fd.get(), reply);
      if (reply.then) {
        reply.then(fd.get());
      }
      if (reply.hang) {
        Readable(fd.get());
      }
      if (reply.close || reply.hang || reply.then) {
        return;
      }
    }
  }
};

ScriptedServer::ScriptedServer(Handler handler) : state_(std::make_unique<State>()) {
  state_->handler = std::move(handler);
  state_->listener.reset(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(state_->listener.get(), generic, size) != 0 ||
      ::listen(state_->listener.get(), 16) != 0 ||
      ::getsockname(state_->listener.get(), generic, &size) != 0) {
    std::abort();
  }
  state_->port = ntohs(address.sin_port);
  state_->acceptor = std::thread([state = state_.get()] { state->Accept(); });
}

ScriptedServer::ScriptedServer(const std::filesystem::path& unix_path, Handler handler)
    : state_(std::make_unique<State>()) {
  state_->handler = std::move(handler);
  state_->listener = ListenUnix(unix_path).value();
  state_->acceptor = std::thread([state = state_.get()] { state->Accept(); });
}

ScriptedServer::~ScriptedServer() {
  state_->stopping = true;
  state_->acceptor.join();
  for (std::thread& worker : state_->workers) {
    worker.join();
  }
}

uint16_t ScriptedServer::port() const {
  return state_->port;
}

std::string ScriptedServer::Address() const {
  return absl::StrCat("127.0.0.1:", state_->port);
}

std::vector<SeenRequest> ScriptedServer::requests() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->seen;
}

}  // namespace vibe::testing
