#include "http/socket_stream.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0  // macOS: SO_NOSIGPIPE is set on the socket instead.
#endif

namespace vibe::http {
namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

absl::Status Unavailable(int error) {
  std::string text = std::generic_category().message(error);
  if (!text.empty()) {
    text[0] = absl::ascii_tolower(static_cast<unsigned char>(text[0]));
  }
  return absl::UnavailableError(text);
}

int PollTimeout(absl::Duration left) {
  // Rounded up, so that the last poll does not spin through a fraction of a millisecond.
  const int64_t milliseconds = absl::ToInt64Milliseconds(left + absl::Milliseconds(1));
  return left == absl::InfiniteDuration() || milliseconds > INT_MAX
             ? -1
             : static_cast<int>(milliseconds);
}

absl::Status PollUntil(int fd, short events, const Deadline& deadline, absl::Duration idle) {
  const Deadline idle_deadline = Deadline::After(idle);
  while (true) {
    const absl::Duration left = std::min(deadline.Left(), idle_deadline.Left());
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError("no answer in time");
    }
    pollfd entry{fd, events, 0};
    const int count = ::poll(&entry, 1, PollTimeout(left));
    if (count > 0) {
      return absl::OkStatus();
    }
    if (count < 0 && errno != EINTR) {
      return Unavailable(errno);
    }
  }
}

struct Lookup {
  int error = 0;
  std::vector<Address> addresses;
};

Lookup LookUp(const std::string& host, uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  Lookup lookup;
  lookup.error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (lookup.error != 0) {
    return lookup;
  }
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    Address address;
    if (entry->ai_addrlen <= sizeof address.storage) {
      std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
      address.size = entry->ai_addrlen;
      lookup.addresses.push_back(address);
    }
  }
  ::freeaddrinfo(list);
  return lookup;
}

absl::StatusOr<Lookup> LookUpWithin(const std::string& host, uint16_t port,
                                    const Deadline& deadline) {
  struct Shared {
    std::mutex mutex;
    std::condition_variable done;
    bool ready = false;
    Lookup lookup;
  };
  const auto shared = std::make_shared<Shared>();
  // getaddrinfo can neither be given a deadline nor be interrupted. The thread is left to itself:
  // it owns all it touches and ends with the resolver's own limit.
  std::thread([shared, host, port] {
    Lookup lookup = LookUp(host, port, AI_ADDRCONFIG);
    const std::lock_guard<std::mutex> lock(shared->mutex);
    shared->lookup = std::move(lookup);
    shared->ready = true;
    shared->done.notify_all();
  }).detach();
  std::unique_lock<std::mutex> lock(shared->mutex);
  while (!shared->ready) {
    const absl::Duration left = deadline.Left();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError("its name was not resolved in time");
    }
    shared->done.wait_for(
        lock, absl::ToChronoMilliseconds(std::min(left, absl::Hours(1)) + absl::Milliseconds(1)));
  }
  return shared->lookup;
}

absl::StatusOr<std::vector<Address>> Resolve(const std::string& host, uint16_t port,
                                             const Deadline& deadline) {
  Lookup numeric = LookUp(host, port, AI_NUMERICHOST);
  if (numeric.error == 0) {
    return std::move(numeric.addresses);
  }
  VIBE_ASSIGN_OR_RETURN(Lookup named, LookUpWithin(host, port, deadline));
  if (named.error == EAI_AGAIN) {
    return absl::UnavailableError("its name cannot be resolved now");
  }
  if (named.error != 0 || named.addresses.empty()) {
    return absl::UnavailableError("no host has this name");
  }
  return std::move(named.addresses);
}

absl::StatusOr<UniqueFd> ConnectAddress(const Address& address, const Deadline& deadline) {
  UniqueFd fd(::socket(address.storage.ss_family, SOCK_STREAM, 0));
  if (!fd.valid()) {
    return Unavailable(errno);
  }
  ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  VIBE_RETURN_IF_ERROR(SetBlocking(fd.get(), false));
  const auto* generic = reinterpret_cast<const sockaddr*>(&address.storage);
  if (::connect(fd.get(), generic, address.size) != 0) {
    if (errno != EINPROGRESS && errno != EINTR) {
      return Unavailable(errno);
    }
    VIBE_RETURN_IF_ERROR(PollUntil(fd.get(), POLLOUT, deadline, absl::InfiniteDuration()));
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
      return Unavailable(error);
    }
  }
  return fd;
}

}  // namespace

Deadline Deadline::After(absl::Duration duration) {
  Deadline deadline;
  // A year is as good as for ever, and far from the clock's overflow.
  if (duration < absl::Hours(24 * 365)) {
    deadline.at_ = std::chrono::steady_clock::now() +
                   absl::ToChronoNanoseconds(std::max(duration, absl::ZeroDuration()));
  }
  return deadline;
}

absl::Duration Deadline::Left() const {
  if (at_ == std::chrono::steady_clock::time_point::max()) {
    return absl::InfiniteDuration();
  }
  return std::max(absl::FromChrono(at_ - std::chrono::steady_clock::now()), absl::ZeroDuration());
}

absl::Status SetBlocking(int fd, bool blocking) {
  const int flags = ::fcntl(fd, F_GETFL);
  const int wanted = blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK;
  if (flags < 0 || ::fcntl(fd, F_SETFL, wanted) != 0) {
    return ErrnoError(errno, "fcntl");
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> ConnectTcp(const std::string& host, uint16_t port,
                                    const Deadline& deadline) {
  VIBE_ASSIGN_OR_RETURN(const std::vector<Address> addresses, Resolve(host, port, deadline));
  absl::Status failure;
  for (size_t i = 0; i < addresses.size(); ++i) {
    // An address that swallows packets (broken IPv6) must leave time for the others.
    const Deadline share = Deadline::After(deadline.Left() / (addresses.size() - i));
    absl::StatusOr<UniqueFd> fd = ConnectAddress(addresses[i], share);
    if (fd.ok()) {
      return fd;
    }
    failure = fd.status();
  }
  return failure;
}

SocketStream::SocketStream(UniqueFd fd, absl::Duration idle) : fd_(std::move(fd)), idle_(idle) {
#ifdef SO_NOSIGPIPE
  const int on = 1;
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
}

absl::Status SocketStream::Wait(short events) const {
  return PollUntil(fd_.get(), events, deadline_, idle_);
}

absl::StatusOr<size_t> SocketStream::ReadSome(char* buffer, size_t size) {
  while (true) {
    // Looked at first, because a peer that always has a byte ready would never make us wait.
    if (deadline_.Left() <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError("no whole answer in time");
    }
    const ssize_t count = ::recv(fd_.get(), buffer, size, 0);
    if (count >= 0) {
      return static_cast<size_t>(count);
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      VIBE_RETURN_IF_ERROR(Wait(POLLIN));
    } else if (errno != EINTR) {
      return Unavailable(errno);
    }
  }
}

absl::StatusOr<size_t> SocketStream::WriteSome(const char* buffer, size_t size) {
  while (true) {
    const ssize_t count = ::send(fd_.get(), buffer, size, MSG_NOSIGNAL);
    if (count >= 0) {
      return static_cast<size_t>(count);
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      VIBE_RETURN_IF_ERROR(Wait(POLLOUT));
    } else if (errno != EINTR) {
      return Unavailable(errno);
    }
  }
}

}  // namespace vibe::http
