#include "vm/qemu/stream.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/descriptor.h"
#include "base/status.h"

namespace vibe::vm::qemu {
namespace {

constexpr absl::Duration kQueuePause = absl::Milliseconds(5);
constexpr absl::Duration kMaxLoopbackPatience = absl::Milliseconds(160);

absl::Status Await(int fd, short events, absl::Time deadline) {
  while (true) {
    const absl::Duration left = absl::Ceil(deadline - absl::Now(), absl::Milliseconds(1));
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError("no answer in time");
    }
    pollfd entry{fd, events, 0};
    const int count = ::poll(
        &entry, 1, static_cast<int>(std::min<int64_t>(absl::ToInt64Milliseconds(left), 60'000)));
    if (count > 0) {
      return absl::OkStatus();
    }
    if (count < 0 && errno != EINTR) {
      return ErrnoError(errno, "poll");
    }
  }
}

absl::StatusOr<UniqueFd> ConnectBy(int family, const sockaddr* address, socklen_t size,
                                   const std::string& name, absl::Time deadline) {
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    return ErrnoError(errno, "make a socket");
  }
  // A unix socket whose queue is full says EAGAIN, and there is nothing to wait for but time.
  while (::connect(fd.get(), address, size) != 0) {
    int error = errno;
    if (error == EAGAIN && family == AF_UNIX) {
      if (absl::Now() + kQueuePause > deadline) {
        return absl::DeadlineExceededError(absl::StrCat(name, " takes no connections"));
      }
      absl::SleepFor(kQueuePause);
      continue;
    }
    if (error == EINPROGRESS || error == EINTR) {
      VIBE_RETURN_IF_ERROR(Annotate(Await(fd.get(), POLLOUT, deadline), name));
      socklen_t length = sizeof error;
      ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
      if (error == 0) {
        break;
      }
    }
    return absl::UnavailableError(absl::StrCat(name, ": ", std::strerror(error)));
  }
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
  return fd;
}

}  // namespace

absl::StatusOr<UniqueFd> ConnectUnixBy(const std::filesystem::path& path, absl::Time deadline) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.native().size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(
        absl::StrCat("the socket path ", path.string(), " is too long"));
  }
  std::memcpy(address.sun_path, path.c_str(), path.native().size());
  return ConnectBy(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof address,
                   path.string(), deadline);
}

absl::StatusOr<UniqueFd> ConnectLoopbackBy(uint16_t port, absl::Time deadline) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  // Over loopback the listener's kernel answers at once, or its queue is full and it says nothing
  // (libslirp's holds one connection); TCP would ask again after a second.
  absl::Duration patience = kQueuePause;
  absl::StatusOr<UniqueFd> fd;
  do {
    fd = ConnectBy(AF_INET, reinterpret_cast<const sockaddr*>(&address), sizeof address,
                   absl::StrCat("127.0.0.1:", port), std::min(deadline, absl::Now() + patience));
    patience = std::min(2 * patience, kMaxLoopbackPatience);
  } while (absl::IsDeadlineExceeded(fd.status()) && absl::Now() < deadline);
  VIBE_RETURN_IF_ERROR(fd.status());
  const int on = 1;
  ::setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

absl::StatusOr<UniqueFd> ConnectVsockBy(uint32_t cid, uint32_t port, absl::Time deadline) {
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = cid;
  address.svm_port = port;
  return ConnectBy(AF_VSOCK, reinterpret_cast<const sockaddr*>(&address), sizeof address,
                   absl::StrCat("vsock ", cid, ":", port), deadline);
}

absl::Status WriteBy(const UniqueFd& fd, absl::string_view bytes, absl::Time deadline) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) {
      bytes.remove_prefix(static_cast<size_t>(count));
    } else if (errno == EAGAIN) {
      VIBE_RETURN_IF_ERROR(Await(fd.get(), POLLOUT, deadline));
    } else if (errno != EINTR) {
      return absl::UnavailableError(absl::StrCat("the connection broke: ", std::strerror(errno)));
    }
  }
  return absl::OkStatus();
}

absl::Status WriteWithDescriptorBy(const UniqueFd& fd, absl::string_view bytes,
                                   const UniqueFd& attached, absl::Time deadline) {
  while (true) {
    const ssize_t count = SendWithDescriptor(fd.get(), bytes, attached.get());
    if (count > 0) {
      return WriteBy(fd, bytes.substr(static_cast<size_t>(count)), deadline);
    }
    if (errno == EAGAIN) {
      VIBE_RETURN_IF_ERROR(Await(fd.get(), POLLOUT, deadline));
    } else if (errno != EINTR) {
      return absl::UnavailableError(absl::StrCat("the connection broke: ", std::strerror(errno)));
    }
  }
}

absl::StatusOr<std::string> ReadLineBy(const UniqueFd& fd, size_t limit, absl::Time deadline) {
  std::string line;
  char buffer[4096];
  while (true) {
    VIBE_RETURN_IF_ERROR(Await(fd.get(), POLLIN, deadline));
    const ssize_t seen = ::recv(fd.get(), buffer, sizeof buffer, MSG_PEEK | MSG_DONTWAIT);
    if (seen < 0 && (errno == EAGAIN || errno == EINTR)) {
      continue;
    }
    if (seen <= 0) {
      return absl::UnavailableError("the other side closed the connection");
    }
    const absl::string_view text(buffer, static_cast<size_t>(seen));
    const size_t end = text.find('\n');
    const size_t take = end == absl::string_view::npos ? text.size() : end + 1;
    if (line.size() + take > limit + 1) {
      return absl::ResourceExhaustedError(absl::StrCat("a line of over ", limit, " bytes came"));
    }
    // Peeked at, so it is there.
    const ssize_t taken = ::recv(fd.get(), buffer, take, MSG_DONTWAIT);
    if (taken != static_cast<ssize_t>(take)) {
      return absl::UnavailableError("the connection broke");
    }
    line.append(buffer, take);
    if (end != absl::string_view::npos) {
      line.pop_back();
      return line;
    }
  }
}

absl::Status AwaitReadable(const UniqueFd& fd, absl::Time deadline) {
  return Await(fd.get(), POLLIN, deadline);
}

}  // namespace vibe::vm::qemu
