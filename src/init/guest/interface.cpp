#include "init/guest/interface.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::init::guest {
namespace {

constexpr absl::Duration kInterfaceWait = absl::Seconds(10);
constexpr absl::Duration kPoll = absl::Milliseconds(5);

UniqueFd Socket() {
  return UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

ifreq Request(const std::string& interface) {
  ifreq request{};
  std::strncpy(request.ifr_name, interface.c_str(), sizeof request.ifr_name - 1);
  return request;
}

void Fill(sockaddr& socket, uint32_t address) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = address;
  std::memcpy(&socket, &in, sizeof in);
}

absl::Status Call(unsigned long what, ifreq& request, absl::string_view action) {
  if (::ioctl(Socket().get(), what, &request) != 0) {
    return ErrnoError(errno, absl::StrCat(action, " ", request.ifr_name));
  }
  return absl::OkStatus();
}

// The uplink's IPv6 would be a second way to the host, past what the firewall is told of the first.
void SwitchOffIpv6(const std::string& interface) {
  const std::string path = absl::StrCat("/proc/sys/net/ipv6/conf/", interface, "/disable_ipv6");
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.valid() && ::write(file.get(), "1", 1) < 0) {
    return;  // a kernel without IPv6
  }
}

}  // namespace

absl::Status BringUp(const std::string& interface) {
  const absl::Time deadline = absl::Now() + kInterfaceWait;
  while (::if_nametoindex(interface.c_str()) == 0) {
    if (absl::Now() >= deadline) {
      return absl::NotFoundError(absl::StrCat("there is no network interface ", interface));
    }
    absl::SleepFor(kPoll);
  }
  SwitchOffIpv6(interface);
  ifreq request = Request(interface);
  VIBE_RETURN_IF_ERROR(Call(SIOCGIFFLAGS, request, "look at"));
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  return Call(SIOCSIFFLAGS, request, "bring up");
}

absl::StatusOr<std::array<uint8_t, 6>> HardwareAddress(const std::string& interface) {
  ifreq request = Request(interface);
  VIBE_RETURN_IF_ERROR(Call(SIOCGIFHWADDR, request, "get the hardware address of"));
  std::array<uint8_t, 6> address{};
  std::memcpy(address.data(), request.ifr_hwaddr.sa_data, address.size());
  return address;
}

absl::Status SetAddress(const std::string& interface, uint32_t address, uint32_t netmask) {
  ifreq request = Request(interface);
  Fill(request.ifr_addr, address);
  VIBE_RETURN_IF_ERROR(Call(SIOCSIFADDR, request, "set the address of"));
  request = Request(interface);
  Fill(request.ifr_netmask, netmask);
  return Call(SIOCSIFNETMASK, request, "set the netmask of");
}

absl::Status SetDefaultRoute(const std::string& interface, uint32_t router) {
  std::string device = interface;
  rtentry route{};
  Fill(route.rt_dst, 0);
  Fill(route.rt_genmask, 0);
  Fill(route.rt_gateway, router);
  route.rt_flags = RTF_UP | RTF_GATEWAY;
  route.rt_dev = device.data();
  if (::ioctl(Socket().get(), SIOCADDRT, &route) != 0 && errno != EEXIST) {
    return ErrnoError(errno, absl::StrCat("route through ", AddressText(router)));
  }
  return absl::OkStatus();
}

std::string AddressText(uint32_t address) {
  char text[INET_ADDRSTRLEN] = "";
  ::inet_ntop(AF_INET, &address, text, sizeof text);
  return text;
}

std::string NetworkText(uint32_t address, uint32_t netmask) {
  return absl::StrCat(AddressText(address & netmask), "/", __builtin_popcount(netmask));
}

}  // namespace vibe::init::guest
