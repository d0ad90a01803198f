// Connected sockets of tests, and what comes out of them.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace vibe::relay {

using FdPair = std::pair<UniqueFd, UniqueFd>;

inline FdPair UnixPair() {
  int fds[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

struct LoopbackListener {
  UniqueFd fd;
  sockaddr_in address{};

  uint16_t port() const { return ntohs(address.sin_port); }
};

// On 127.0.0.1, at a port that is free; `queue` as of listen(2).
inline LoopbackListener ListenOnLoopback(int queue) {
  LoopbackListener listener{.fd = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  listener.address.sin_family = AF_INET;
  listener.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const address = reinterpret_cast<sockaddr*>(&listener.address);
  socklen_t size = sizeof listener.address;
  EXPECT_EQ(::bind(listener.fd.get(), address, size), 0);
  EXPECT_EQ(::listen(listener.fd.get(), queue), 0);
  EXPECT_EQ(::getsockname(listener.fd.get(), address, &size), 0);
  return listener;
}

inline FdPair TcpPair() {
  const LoopbackListener listener = ListenOnLoopback(1);
  UniqueFd client(::socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&listener.address),
                      sizeof listener.address),
            0);
  UniqueFd server(::accept(listener.fd.get(), nullptr, nullptr));
  EXPECT_TRUE(server.valid());
  return {std::move(client), std::move(server)};
}

inline bool WaitFor(int fd, short events, int milliseconds = 5000) {
  pollfd entry{fd, events, 0};
  return ::poll(&entry, 1, milliseconds) == 1;
}

inline void Send(int fd, const std::string& bytes) {
  ASSERT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), ssize_t(bytes.size()));
}

// Up to `size` bytes; shorter at the end of the stream, or when nothing comes for 5 s.
inline std::string Receive(int fd, size_t size) {
  std::string result;
  std::vector<char> buffer(256 << 10);
  while (result.size() < size && WaitFor(fd, POLLIN)) {
    const ssize_t count =
        ::recv(fd, buffer.data(), std::min(buffer.size(), size - result.size()), 0);
    if (count <= 0) {
      break;
    }
    result.append(buffer.data(), static_cast<size_t>(count));
  }
  return result;
}

// 0 for the end of the stream, an errno for a failed read, -1 when nothing comes.
inline int HowItEnds(int fd) {
  char byte;
  while (WaitFor(fd, POLLIN)) {
    const ssize_t count = ::recv(fd, &byte, 1, 0);
    if (count <= 0) {
      return count == 0 ? 0 : errno;
    }
  }
  return -1;
}

}  // namespace vibe::relay
