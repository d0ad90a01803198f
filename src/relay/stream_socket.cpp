#include "relay/stream_socket.h"

#include <boost/asio/error.hpp>

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

}  // namespace vibe::relay
