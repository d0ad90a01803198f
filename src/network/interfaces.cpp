#include "network/interfaces.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/ipv6.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::network {
namespace {

absl::StatusOr<UniqueFd> ControlSocket(int family) {
  UniqueFd socket(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) {
    return ErrnoError(errno, "socket");
  }
  return socket;
}

ifreq Request(const std::string& interface) {
  ifreq request{};
  interface.copy(request.ifr_name, sizeof request.ifr_name - 1);
  return request;
}

sockaddr Ipv4Sockaddr(uint32_t address) {
  sockaddr_in ipv4{};
  ipv4.sin_family = AF_INET;
  ipv4.sin_addr.s_addr = address;
  sockaddr generic{};
  static_assert(sizeof generic == sizeof ipv4);
  std::memcpy(&generic, &ipv4, sizeof generic);
  return generic;
}

absl::Status Apply(const UniqueFd& socket, unsigned long command, void* request,
                   absl::string_view what) {
  return ::ioctl(socket.get(), command, request) == 0 ? absl::OkStatus() : ErrnoError(errno, what);
}

absl::Status BringUp(const UniqueFd& socket, const std::string& interface) {
  ifreq request = Request(interface);
  const std::string what = absl::StrCat("bring ", interface, " up");
  VIBE_RETURN_IF_ERROR(Apply(socket, SIOCGIFFLAGS, &request, what));
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  return Apply(socket, SIOCSIFFLAGS, &request, what);
}

// /proc/sys/net shows the namespace of the thread that looks.
absl::Status SetIpv6Option(const std::string& interface, const char* option, const char* value) {
  const std::string path = absl::StrCat("/proc/sys/net/ipv6/conf/", interface, "/", option);
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid() && errno == ENOENT) {
    return absl::OkStatus();  // a kernel without IPv6
  }
  if (!file.valid() || ::write(file.get(), value, std::strlen(value)) < 0) {
    return ErrnoError(errno, path);
  }
  return absl::OkStatus();
}

// A bridge takes the lowest address of its ports otherwise, and neighbours would have to learn it
// anew each time that a service starts.
absl::Status FixHardwareAddress(const UniqueFd& socket, const Subnet& subnet, uint32_t ipv4) {
  ifreq request = Request(subnet.bridge);
  request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  request.ifr_hwaddr.sa_data[0] = 0x02;  // locally administered
  request.ifr_hwaddr.sa_data[1] = 0x76;
  std::memcpy(request.ifr_hwaddr.sa_data + 2, &ipv4, sizeof ipv4);
  return Apply(socket, SIOCSIFHWADDR, &request, "set the bridge's hardware address");
}

absl::Status SetIpv4Gateway(const UniqueFd& socket, const Subnet& subnet, uint32_t ipv4) {
  ifreq request = Request(subnet.bridge);
  request.ifr_addr = Ipv4Sockaddr(ipv4);
  VIBE_RETURN_IF_ERROR(Apply(socket, SIOCSIFADDR, &request, "set the bridge's IPv4 address"));
  request.ifr_netmask = Ipv4Sockaddr(htonl(~uint32_t{0} << (32 - subnet.prefix4)));
  return Apply(socket, SIOCSIFNETMASK, &request, "set the bridge's IPv4 netmask");
}

absl::Status SetIpv6Gateway(const Subnet& subnet) {
  const absl::StatusOr<UniqueFd> socket = ControlSocket(AF_INET6);
  if (!socket.ok()) {
    return absl::OkStatus();  // a kernel without IPv6
  }
  in6_ifreq request{};
  ::inet_pton(AF_INET6, subnet.ipv6_gateway.c_str(), &request.ifr6_addr);
  request.ifr6_prefixlen = static_cast<uint32_t>(subnet.prefix6);
  request.ifr6_ifindex = static_cast<int>(::if_nametoindex(subnet.bridge.c_str()));
  return Apply(*socket, SIOCSIFADDR, &request, "set the bridge's IPv6 address");
}

absl::Status ConfigureBridge(const UniqueFd& socket, const Subnet& subnet) {
  in_addr gateway{};
  ::inet_pton(AF_INET, subnet.ipv4_gateway.c_str(), &gateway);
  VIBE_RETURN_IF_ERROR(FixHardwareAddress(socket, subnet, gateway.s_addr));
  VIBE_RETURN_IF_ERROR(SetIpv6Option(subnet.bridge, "accept_dad", "0"));
  VIBE_RETURN_IF_ERROR(SetIpv6Option(subnet.bridge, "accept_ra", "0"));
  VIBE_RETURN_IF_ERROR(SetIpv4Gateway(socket, subnet, gateway.s_addr));
  VIBE_RETURN_IF_ERROR(SetIpv6Gateway(subnet));
  return BringUp(socket, subnet.bridge);
}

}  // namespace

absl::Status BringLoopbackUp() {
  VIBE_ASSIGN_OR_RETURN(const UniqueFd socket, ControlSocket(AF_INET));
  return BringUp(socket, "lo");
}

absl::Status TrustPlannedAddresses() {
  // The kernel skips the check only when both say so.
  for (const char* scope : {"all", "default"}) {
    VIBE_RETURN_IF_ERROR(SetIpv6Option(scope, "accept_dad", "0"));
    VIBE_RETURN_IF_ERROR(SetIpv6Option(scope, "accept_ra", "0"));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> MakeBridge(const Subnet& subnet) {
  VIBE_ASSIGN_OR_RETURN(const UniqueFd socket, ControlSocket(AF_INET));
  if (::ioctl(socket.get(), SIOCBRADDBR, subnet.bridge.c_str()) != 0) {
    if (errno != EEXIST) {
      return ErrnoError(errno, absl::StrCat("make the bridge ", subnet.bridge));
    }
    const auto address = Ipv4AddressOf(subnet.bridge);
    if (address.ok() && *address == subnet.ipv4_gateway) {
      VIBE_RETURN_IF_ERROR(BringUp(socket, subnet.bridge));
      return false;
    }
    VIBE_RETURN_IF_ERROR(DeleteBridge(subnet.bridge));  // a half-made one
    return MakeBridge(subnet);
  }
  if (absl::Status status = ConfigureBridge(socket, subnet); !status.ok()) {
    DeleteBridge(subnet.bridge).IgnoreError();
    return Annotate(status, subnet.bridge);
  }
  return true;
}

absl::Status DeleteBridge(const std::string& bridge) {
  VIBE_ASSIGN_OR_RETURN(const UniqueFd socket, ControlSocket(AF_INET));
  ifreq request = Request(bridge);
  if (::ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0) {
    return errno == ENODEV ? absl::OkStatus() : ErrnoError(errno, absl::StrCat("look at ", bridge));
  }
  request.ifr_flags = static_cast<short>(request.ifr_flags & ~IFF_UP);
  VIBE_RETURN_IF_ERROR(
      Apply(socket, SIOCSIFFLAGS, &request, absl::StrCat("take ", bridge, " down")));
  if (::ioctl(socket.get(), SIOCBRDELBR, bridge.c_str()) != 0 && errno != ENXIO) {
    return ErrnoError(errno, absl::StrCat("remove the bridge ", bridge));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Ipv4AddressOf(const std::string& interface) {
  VIBE_ASSIGN_OR_RETURN(const UniqueFd socket, ControlSocket(AF_INET));
  ifreq request = Request(interface);
  if (::ioctl(socket.get(), SIOCGIFADDR, &request) != 0) {
    return errno == ENODEV || errno == EADDRNOTAVAIL
               ? absl::NotFoundError(absl::StrCat(interface, " has no IPv4 address"))
               : ErrnoError(errno, absl::StrCat("look at ", interface));
  }
  sockaddr_in address{};
  std::memcpy(&address, &request.ifr_addr, sizeof address);
  std::array<char, INET_ADDRSTRLEN> text{};
  return ::inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
}

}  // namespace vibe::network
