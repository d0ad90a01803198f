#include "relay/stream_socket.h"

#include <boost/asio/error.hpp>
#include <memory>

namespace vibe::relay {

sa_family_t FamilyOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return address.ss_family;
}

boost::system::error_code Assign(StreamSocket& socket, UniqueFd fd) {
  boost::system::error_code error;
  socket.assign(StreamSocket::protocol_type(FamilyOf(fd.get()), 0), fd.get(), error);
  if (!error) {
    (void)fd.release();
    socket.non_blocking(true, error);
  }
  return error;
}

bool WouldBlock(const boost::system::error_code& error) {
  return error == boost::asio::error::would_block || error == boost::asio::error::try_again;
}

void ResetOnClose(int fd) {
  const sa_family_t family = FamilyOf(fd);
  if (family == AF_INET || family == AF_INET6) {
    const linger now{1, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
}

char* Scratch() {
  // Not the array itself: every thread of the program would have one.
  static thread_local const std::unique_ptr<char[]> scratch(new char[kScratchBytes]);
  return scratch.get();
}

}  // namespace vibe::relay
