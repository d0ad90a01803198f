#include "host/port_socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

namespace vibe::host {
namespace {

int Bind(int family, relay::Protocol protocol, const sockaddr* address, socklen_t size,
         UniqueFd& fd) {
  const bool tcp = protocol == relay::Protocol::kTcp;
  fd.reset(::socket(family, tcp ? SOCK_STREAM : SOCK_DGRAM, 0));
  const int on = 1;
  // SO_REUSEADDR: connections of the last run may still be in TIME_WAIT. On UDP it would let two
  // programs have one port.
  if (!fd.valid() || ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0 ||
      ::fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0 ||
      (tcp && ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) ||
      (family == AF_INET6 &&
       ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) ||
      ::bind(fd.get(), address, size) != 0) {
    const int error = errno;
    fd.reset();
    return error;
  }
  return 0;
}

}  // namespace

int BindPort(uint16_t port, relay::Protocol protocol, PortSockets& sockets) {
  sockaddr_in ipv4{};
  ipv4.sin_family = AF_INET;
  ipv4.sin_port = htons(port);
  ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int error =
      Bind(AF_INET, protocol, reinterpret_cast<const sockaddr*>(&ipv4), sizeof ipv4, sockets.ipv4);
  if (error != 0) {
    return error;
  }
  sockaddr_in6 ipv6{};
  ipv6.sin6_family = AF_INET6;
  ipv6.sin6_port = htons(port);
  ipv6.sin6_addr = in6addr_loopback;
  error =
      Bind(AF_INET6, protocol, reinterpret_cast<const sockaddr*>(&ipv6), sizeof ipv6, sockets.ipv6);
  // Anything else means that this computer has no ::1.
  return error == EADDRINUSE ? error : 0;
}

}  // namespace vibe::host
