#include "init/network.h"

#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"

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
