#include "supervisor/door.h"

// The kernel's header wants this one first.
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "spdlog/spdlog.h"

namespace vibe::supervisor {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(5);
constexpr size_t kMaxVisitors = 256;
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);
constexpr int kTurnMs = 1000;  // how often visitors' patience is looked at

bool IsFromHost(int fd) {
  sockaddr_vm peer{};
  socklen_t size = sizeof peer;
  return ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0 &&
         peer.svm_cid == VMADDR_CID_HOST;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Door>> Door::Open(const std::vector<std::string>& addresses,
                                                 const std::string& secret) {
  std::vector<Listener> listeners;
  std::vector<std::unique_ptr<SerialPort>> ports;
  for (const std::string& text : addresses) {
    VIBE_ASSIGN_OR_RETURN(const Address address, ParseAddress(text));
    if ((address.kind == Address::Kind::kTcp || address.kind == Address::Kind::kSerial) &&
        secret.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("no host can be told from others on ", text, ": the machine has no secret"));
    }
    if (address.kind == Address::Kind::kSerial) {
      VIBE_ASSIGN_OR_RETURN(std::unique_ptr<SerialPort> port,
                            SerialPort::Open(address.path, secret));
      ports.push_back(std::move(port));
      continue;
    }
    VIBE_ASSIGN_OR_RETURN(UniqueFd fd, ListenOn(address));
    listeners.push_back({.fd = std::move(fd), .kind = address.kind});
  }
  return std::unique_ptr<Door>(new Door(std::move(listeners), std::move(ports), secret));
}

Door::Door(std::vector<Listener> listeners, std::vector<std::unique_ptr<SerialPort>> ports,
           std::string secret)
    : listeners_(std::move(listeners)),
      ports_(std::move(ports)),
      secret_(std::move(secret)),
      stop_(::eventfd(0, EFD_CLOEXEC)) {}

Door::~Door() {
  Close();
}

void Door::Serve(Sink sink) {
  sink_ = std::move(sink);
  for (const std::unique_ptr<SerialPort>& port : ports_) {
    port->Serve(sink_);
  }
  thread_ = std::thread([this] { Run(); });
}

void Door::Close() {
  for (const std::unique_ptr<SerialPort>& port : ports_) {
    port->Close();
  }
  if (thread_.joinable()) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof one);
    thread_.join();
  }
}

void Door::Run() {
  while (true) {
    std::vector<pollfd> polls = {{stop_.get(), POLLIN, 0}};
    for (const Listener& listener : listeners_) {
      polls.push_back({listener.fd.get(), POLLIN, 0});
    }
    for (const Visitor& visitor : visitors_) {
      polls.push_back({visitor.fd.get(), POLLIN, 0});
    }
    ::poll(polls.data(), polls.size(), visitors_.empty() ? -1 : kTurnMs);
    if (polls[0].revents != 0) {
      return;
    }
    std::erase_if(visitors_, [this](Visitor& visitor) { return Hear(visitor); });
    for (size_t i = 0; i < listeners_.size(); ++i) {
      if (polls[i + 1].revents != 0) {
        Accept(listeners_[i]);
      }
    }
  }
}

void Door::Accept(const Listener& listener) {
  UniqueFd fd(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) {
    if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) {
      spdlog::warn("cannot accept a connection: {}", std::strerror(errno));
      absl::SleepFor(kAcceptPause);
    }
    return;
  }
  if (listener.kind == Address::Kind::kVsock && !IsFromHost(fd.get())) {
    return;
  }
  if (listener.kind == Address::Kind::kTcp) {
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  if (listener.kind == Address::Kind::kUnix || secret_.empty()) {
    sink_(std::move(fd));
    return;
  }
  if (visitors_.size() >= kMaxVisitors) {
    visitors_.erase(visitors_.begin());  // whoever waits longest is no host of ours
  }
  visitors_.push_back({.fd = std::move(fd), .until = absl::Now() + kPatience, .said = {}});
}

bool Door::Hear(Visitor& visitor) {
  std::string bytes(secret_.size() + 1 - visitor.said.size(), '\0');
  const ssize_t count = ::recv(visitor.fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
    return absl::Now() >= visitor.until;
  }
  if (count <= 0) {
    return true;
  }
  visitor.said.append(bytes, 0, static_cast<size_t>(count));
  if (visitor.said.size() <= secret_.size()) {
    return false;
  }
  // In the same time wherever the first wrong byte is.
  if (visitor.said.back() == '\n' &&
      CRYPTO_memcmp(visitor.said.data(), secret_.data(), secret_.size()) == 0) {
    sink_(std::move(visitor.fd));
  } else {
    spdlog::warn("a connection without the machine's secret was refused");
  }
  return true;
}

}  // namespace vibe::supervisor
