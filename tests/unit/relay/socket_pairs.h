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

inline FdPair TcpPair() {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(::bind(listener.get(), generic, size), 0);
  EXPECT_EQ(::listen(listener.get(), 1), 0);
  EXPECT_EQ(::getsockname(listener.get(), generic, &size), 0);
  UniqueFd client(::socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_EQ(::connect(client.get(), generic, size), 0);
  UniqueFd server(::accept(listener.get(), nullptr, nullptr));
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
