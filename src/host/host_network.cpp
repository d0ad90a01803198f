#include "host/host_network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status.h"
#include "spdlog/spdlog.h"

namespace vibe::host {
namespace {

// What the machine takes; only the choice of the projects' addresses depends on the rest.
constexpr int kMaxRanges = 1024;

// The kernel may give less than the whole structure, as BSD's do of a netmask's.
template <typename Address>
Address Copy(const sockaddr* given) {
  Address address{};
  size_t size = sizeof address;
#ifdef __APPLE__
  size = std::min<size_t>(size, given->sa_len);
#endif
  std::memcpy(&address, given, size);
  return address;
}

// Both in the network's order of bytes.
std::string Range(uint32_t address, uint32_t mask) {
  const in_addr base{address & mask};
  char text[INET_ADDRSTRLEN] = "";
  ::inet_ntop(AF_INET, &base, text, sizeof text);
  return absl::StrCat(text, "/", __builtin_popcount(mask));
}

std::string Outside4(const in_addr& address) {
  const uint32_t number = ntohl(address.s_addr);
  if (number >> 24 == 127 || number >> 16 == ((169U << 8) | 254U)) {
    return "";
  }
  char text[INET_ADDRSTRLEN] = "";
  return ::inet_ntop(AF_INET, &address, text, sizeof text);
}

std::string Outside6(const in6_addr& address) {
  if (IN6_IS_ADDR_LOOPBACK(&address) || IN6_IS_ADDR_LINKLOCAL(&address)) {
    return "";
  }
  char text[INET6_ADDRSTRLEN] = "";
  return ::inet_ntop(AF_INET6, &address, text, sizeof text);
}

void AddRanges(v1::HostNetwork& network, const std::vector<std::string>& ranges) {
  std::set<std::string> all(network.ranges().begin(), network.ranges().end());
  all.insert(ranges.begin(), ranges.end());
  network.clear_ranges();
  for (const std::string& range : all) {
    if (network.ranges_size() < kMaxRanges) {
      network.add_ranges(range);
    }
  }
}

}  // namespace

v1::HostNetwork HostNetworkOf(const ifaddrs* interfaces) {
  std::set<std::string> addresses;
  std::vector<std::string> ranges;
  for (const ifaddrs* entry = interfaces; entry != nullptr; entry = entry->ifa_next) {
    const int family = entry->ifa_addr == nullptr ? AF_UNSPEC : entry->ifa_addr->sa_family;
    std::string address;
    if (family == AF_INET) {
      const auto socket = Copy<sockaddr_in>(entry->ifa_addr);
      address = Outside4(socket.sin_addr);
      const uint32_t mask = entry->ifa_netmask == nullptr
                                ? ~uint32_t{0}
                                : Copy<sockaddr_in>(entry->ifa_netmask).sin_addr.s_addr;
      if (!address.empty() && mask != 0) {
        ranges.push_back(Range(socket.sin_addr.s_addr, mask));
      }
    } else if (family == AF_INET6) {
      address = Outside6(Copy<sockaddr_in6>(entry->ifa_addr).sin6_addr);
    }
    if (!address.empty()) {
      addresses.insert(std::move(address));
    }
  }
  v1::HostNetwork network;
  network.mutable_addresses()->Add(addresses.begin(), addresses.end());
  AddRanges(network, ranges);
  return network;
}

std::vector<std::string> RoutedRanges(absl::string_view proc_net_route) {
  constexpr size_t kDestination = 1, kMask = 7;
  std::vector<std::string> ranges;
  for (const absl::string_view line : absl::StrSplit(proc_net_route, '\n')) {
    const std::vector<absl::string_view> fields =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    uint32_t destination = 0, mask = 0;
    // Both are printed as the number that the bytes on the wire make in this host's order.
    if (fields.size() > kMask && absl::SimpleHexAtoi(fields[kDestination], &destination) &&
        absl::SimpleHexAtoi(fields[kMask], &mask) && mask != 0) {
      ranges.push_back(Range(destination, mask));
    }
  }
  return ranges;
}

absl::StatusOr<v1::HostNetwork> ReadHostNetwork() {
  ifaddrs* interfaces = nullptr;
  if (::getifaddrs(&interfaces) != 0) {
    return ErrnoError(errno, "look at this computer's network interfaces");
  }
  const absl::Cleanup free = [interfaces] { ::freeifaddrs(interfaces); };
  v1::HostNetwork network = HostNetworkOf(interfaces);
#ifdef __linux__
  constexpr uint64_t kMaxRouteText = 1 << 20;
  if (const auto routes = ReadFile("/proc/net/route", kMaxRouteText); routes.ok()) {
    AddRanges(network, RoutedRanges(*routes));
  }
#endif
  return network;
}

HostNetworkPush::HostNetworkPush(SupervisorClient& supervisor, State state, Decisions decisions,
                                 Read read)
    : supervisor_(supervisor),
      state_(std::move(state)),
      decisions_(std::move(decisions)),
      read_(std::move(read)) {}

absl::Status HostNetworkPush::Probe() {
  VIBE_RETURN_IF_ERROR(supervisor_.Health().status());
  const absl::MutexLock lock(&telling_);
  const vm::MachineState state = state_();
  if (state == vm::MachineState::kShuttingDown) {
    return absl::OkStatus();  // what Forget said is the last word
  }
  const bool begins = state == vm::MachineState::kBooting;
  absl::Status status = decided_ && !begins ? absl::OkStatus() : decisions_(begins);
  decided_ = status.ok();
  if (decided_) {
    status = Tell();
  }
  const std::string error(status.message());
  if (error != last_error_) {
    spdlog::warn("the machine {}", error.empty()
                                       ? "knows this computer's addresses again"
                                       : absl::StrCat("does not know this computer's addresses, "
                                                      "and lets no app reach the internet: ",
                                                      error));
    last_error_ = error;
  }
  return absl::OkStatus();
}

absl::Status HostNetworkPush::Tell() {
  const absl::StatusOr<v1::HostNetwork> network = read_();
  if (!network.ok()) {
    supervisor_.SetHostNetwork(std::nullopt).IgnoreError();
    return network.status();
  }
  return supervisor_.SetHostNetwork(*network);
}

absl::Status HostNetworkPush::Forget() {
  const absl::MutexLock lock(&telling_);
  return supervisor_.SetHostNetwork(std::nullopt);
}

}  // namespace vibe::host
