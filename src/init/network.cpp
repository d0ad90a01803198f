#include "init/network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "network/network.h"

namespace vibe::init {
namespace {

absl::Status LoopbackUp() {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", sizeof request.ifr_name - 1);
  if (!socket.valid() || ::ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0) {
    return ErrnoError(errno, "look at the loopback interface");
  }
  request.ifr_flags |= IFF_UP;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) {
    return ErrnoError(errno, "bring the loopback interface up");
  }
  return absl::OkStatus();
}

struct Setting {
  const char* path;
  const char* value;
  bool optional;  // not every kernel has it
};
constexpr Setting kSettings[] = {
    {"/proc/sys/net/ipv4/ip_forward", "1", false},
    {"/proc/sys/net/ipv6/conf/all/forwarding", "1", true},
    {"/proc/sys/net/ipv6/conf/default/forwarding", "1", true},
    // What the firewall refuses has to hear so at once, however often it asks.
    {"/proc/sys/net/ipv4/icmp_ratelimit", "0", false},
    {"/proc/sys/net/ipv6/icmp/ratelimit", "0", true},
    // Services of one project talk freely: their packets need not pass the firewall's chains.
    {"/proc/sys/net/bridge/bridge-nf-call-iptables", "0", true},
    {"/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0", true},
};

absl::Status Set(const Setting& setting) {
  const UniqueFd file(::open(setting.path, O_WRONLY | O_CLOEXEC));
  if (file.valid() && ::write(file.get(), setting.value, std::strlen(setting.value)) > 0) {
    return absl::OkStatus();
  }
  return setting.optional ? absl::OkStatus()
                          : ErrnoError(errno, absl::StrCat("set ", setting.path));
}

}  // namespace

absl::Status SetUpNetwork() {
  VIBE_RETURN_IF_ERROR(LoopbackUp());
  for (const Setting& setting : kSettings) {
    VIBE_RETURN_IF_ERROR(Set(setting));
  }
  return absl::OkStatus();
}

std::vector<std::string> HostAddresses() {
  std::vector<std::string> addresses;
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) {
    return addresses;
  }
  for (const ifaddrs* entry = all; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || (entry->ifa_flags & IFF_LOOPBACK) != 0) {
      continue;
    }
    char text[INET6_ADDRSTRLEN] = "";
    std::string address;
    if (entry->ifa_addr->sa_family == AF_INET) {
      const auto* socket = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
      ::inet_ntop(AF_INET, &socket->sin_addr, text, sizeof text);
      address = absl::StrCat(text, "/32");
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      const auto* socket = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
      if (IN6_IS_ADDR_LINKLOCAL(&socket->sin6_addr)) {
        continue;
      }
      ::inet_ntop(AF_INET6, &socket->sin6_addr, text, sizeof text);
      address = absl::StrCat(text, "/128");
    } else {
      continue;
    }
    if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) {
      addresses.push_back(address);
    }
  }
  ::freeifaddrs(all);
  return addresses;
}

std::vector<std::string> HostRoutes() {
  constexpr size_t kMaxRoutes = 256;
  std::vector<std::string> routes = network::RoutedRanges();
  routes.resize(std::min(routes.size(), kMaxRoutes));
  return routes;
}

std::string NoUplinkReason(const std::string& slirp4netns) {
  if (slirp4netns.empty()) {
    return "slirp4netns is not installed";
  }
  const UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  return tun.valid() ? ""
                     : absl::StrCat("/dev/net/tun cannot be opened: ",
                                    std::generic_category().message(errno));
}

}  // namespace vibe::init
