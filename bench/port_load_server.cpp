#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "port_load.h"

namespace port_load {
namespace {

constexpr size_t kBlock = 256 << 10;

int Bound(int type, uint16_t port) {
  const int fd = ::socket(AF_INET6, type | SOCK_CLOEXEC, 0);
  const int on = 1, off = 0;
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (fd < 0 || ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    Fail("bind port " + std::to_string(port));
  }
  return fd;
}

void ServeUdp(int fd) {
  std::vector<char> datagram(64 << 10);
  while (true) {
    sockaddr_in6 peer{};
    socklen_t size = sizeof peer;
    const ssize_t count = ::recvfrom(fd, datagram.data(), datagram.size(), 0,
                                     reinterpret_cast<sockaddr*>(&peer), &size);
    if (count >= 0) {
      ::sendto(fd, datagram.data(), static_cast<size_t>(count), 0,
               reinterpret_cast<sockaddr*>(&peer), size);
    }
  }
}

void SetBlocking(int fd) {
  const int off = 0;
  ::ioctl(fd, FIONBIO, &off);
}

// Bulk transfers have a thread each: nothing is measured but the port's way.
void Download(int fd) {
  const std::vector<char> block(kBlock, 'd');
  while (::send(fd, block.data(), block.size(), MSG_NOSIGNAL) > 0) {
  }
  ::close(fd);
}

void Upload(int fd) {
  std::vector<char> block(kBlock);
  uint64_t total = 0;
  for (ssize_t count = 0; (count = ::recv(fd, block.data(), block.size(), 0)) > 0;) {
    total += static_cast<uint64_t>(count);
  }
  ::send(fd, &total, sizeof total, MSG_NOSIGNAL);
  ::close(fd);
}

void EndAndTake(int fd) {
  ::shutdown(fd, SHUT_WR);
  std::vector<char> block(kBlock);
  unsigned long long total = 0;
  ssize_t count = 0;
  while ((count = ::recv(fd, block.data(), block.size(), 0)) > 0) {
    total += static_cast<unsigned long long>(count);
  }
  std::printf("%s after %llu bytes\n", count == 0 ? "ended" : "reset", total);
  std::fflush(stdout);
  ::close(fd);
}

void EchoSlowly(int fd, std::string bytes) {
  std::vector<char> block(kBlock);
  while (::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size())) {
    const ssize_t count = ::recv(fd, block.data(), block.size(), 0);
    if (count <= 0) {
      break;
    }
    bytes.assign(block.data(), static_cast<size_t>(count));
  }
  ::close(fd);
}

class Server {
 public:
  explicit Server(int listener) : listener_(listener), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    Watch(listener_);
  }

  [[noreturn]] void Run() {
    std::array<epoll_event, 256> events{};
    while (true) {
      const int count = ::epoll_wait(epoll_, events.data(), events.size(), -1);
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<size_t>(i)].data.fd;
        fd == listener_ ? Accept() : Hear(fd);
      }
    }
  }

 private:
  void Watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }

  void Accept() {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      modes_[fd] = 0;
      Hear(fd);  // the first byte is often there already
      if (modes_.count(fd) != 0) {
        Watch(fd);
      }
    }
  }

  void Close(int fd) {
    modes_.erase(fd);
    ::close(fd);
  }

  void Hand(int fd, std::function<void(int)> work) {
    modes_.erase(fd);
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
    SetBlocking(fd);
    std::thread(std::move(work), fd).detach();
  }

  void Hear(int fd) {
    char& mode = modes_[fd];
    if (mode == 0) {
      const ssize_t count = ::recv(fd, &mode, 1, 0);
      if (count <= 0) {
        if (count == 0 || errno != EAGAIN) {
          Close(fd);
        }
        return;
      }
    }
    switch (mode) {
      case 'e':
        Echo(fd);
        return;
      case 'd':
        Hand(fd, Download);
        return;
      case 'u':
        Hand(fd, Upload);
        return;
      case 's':
        Hand(fd, EndAndTake);
        return;
      case 'h':
        ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
        return;
      case 'r': {
        const linger now{1, 0};
        ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        Close(fd);
        return;
      }
      default:
        ::send(fd, "c", 1, MSG_NOSIGNAL);
        Close(fd);
    }
  }

  void Echo(int fd) {
    std::array<char, 64 << 10> buffer;
    const ssize_t count = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (count < 0 && errno == EAGAIN) {
      return;
    }
    const ssize_t sent =
        count <= 0 ? -1 : ::send(fd, buffer.data(), static_cast<size_t>(count), MSG_NOSIGNAL);
    if (sent >= 0 && sent == count) {
      return;
    }
    if (count <= 0 || (sent < 0 && errno != EAGAIN)) {
      Close(fd);
      return;
    }
    // The client does not read for now: a thread waits for it.
    const ssize_t done = sent < 0 ? 0 : sent;
    Hand(fd, [rest = std::string(buffer.data() + done, static_cast<size_t>(count - done))](int c) {
      EchoSlowly(c, rest);
    });
  }

  const int listener_, epoll_;
  std::unordered_map<int, char> modes_;
};

}  // namespace

void Serve(uint16_t port) {
  ::signal(SIGTERM, [](int) { ::_exit(0); });  // process 1 of a container ends at none of its own
  const int listener = Bound(SOCK_STREAM, port);
  if (::listen(listener, 4096) != 0) {
    Fail("listen");
  }
  std::thread(ServeUdp, Bound(SOCK_DGRAM, port)).detach();
  std::printf("listening on port %d\n", port);
  std::fflush(stdout);
  Server(listener).Run();
}

}  // namespace port_load
