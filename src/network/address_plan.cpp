#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "network/network.h"

namespace vibe::network {
namespace {

constexpr int kPoolPrefix4 = 10;
constexpr int kPrefix4 = 22;
constexpr int kGateway = 1;
constexpr int kFirstService = 2;
constexpr uint32_t Base(uint32_t a, uint32_t b) {
  return (a << 24) | (b << 16);
}
// Private ranges of the size that 4096 projects need, those that networks use least first. The last
// one belongs to carriers' NAT and to some VPNs.
constexpr uint32_t kPools4[] = {Base(10, 64), Base(10, 128), Base(10, 192), Base(100, 64)};

std::string Text4(uint32_t address) {
  const in_addr network_order{htonl(address)};
  std::array<char, INET_ADDRSTRLEN> text{};
  return ::inet_ntop(AF_INET, &network_order, text.data(), text.size());
}

std::string Text6(const in6_addr& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  return ::inet_ntop(AF_INET6, &address, text.data(), text.size());
}

std::string Address6(int index, int host) {
  in6_addr address{{{0xfd, 0x76, 0x69, 0x62, 0x00, 0x65}}};
  address.s6_addr[6] = static_cast<uint8_t>(index >> 8);
  address.s6_addr[7] = static_cast<uint8_t>(index);
  address.s6_addr[14] = static_cast<uint8_t>(host >> 8);
  address.s6_addr[15] = static_cast<uint8_t>(host);
  return Text6(address);
}

uint32_t Address4(uint32_t base, int index, int host) {
  return base + (static_cast<uint32_t>(index) << (32 - kPrefix4)) + static_cast<uint32_t>(host);
}

// 02: locally administered. The rest is unique in the machine, since the address is.
std::array<uint8_t, 6> HardwareAddress(uint32_t ipv4) {
  return {0x02,
          0x76,
          static_cast<uint8_t>(ipv4 >> 24),
          static_cast<uint8_t>(ipv4 >> 16),
          static_cast<uint8_t>(ipv4 >> 8),
          static_cast<uint8_t>(ipv4)};
}

uint32_t Mask(int prefix) {
  return prefix == 0 ? 0 : ~uint32_t{0} << (32 - prefix);
}

bool Overlaps(uint32_t pool, absl::string_view range) {
  const std::vector<std::string> parts = absl::StrSplit(range, '/');
  in_addr address{};
  int prefix = 0;
  if (parts.size() != 2 || ::inet_pton(AF_INET, parts[0].c_str(), &address) != 1 ||
      !absl::SimpleAtoi(parts[1], &prefix) || prefix < 1 || prefix > 32) {
    return false;
  }
  const uint32_t mask = Mask(std::min(prefix, kPoolPrefix4));
  return (ntohl(address.s_addr) & mask) == (pool & mask);
}

}  // namespace

AddressPool AddressPool::Avoiding(const std::vector<std::string>& taken) {
  for (const uint32_t pool : kPools4) {
    const auto overlaps = [pool](const std::string& range) { return Overlaps(pool, range); };
    if (std::none_of(taken.begin(), taken.end(), overlaps)) {
      return AddressPool(pool);
    }
  }
  return AddressPool();
}

std::string AddressPool::ipv4() const {
  return absl::StrCat(Text4(base4_), "/", kPoolPrefix4);
}

Subnet AddressPool::SubnetOf(int index) const {
  Subnet subnet;
  subnet.bridge = absl::StrCat("vibe-", index);
  subnet.ipv4_subnet = absl::StrCat(Text4(Address4(base4_, index, 0)), "/", subnet.prefix4);
  subnet.ipv4_gateway = Text4(Address4(base4_, index, kGateway));
  subnet.ipv6_subnet = absl::StrCat(Address6(index, 0), "/", subnet.prefix6);
  subnet.ipv6_gateway = Address6(index, kGateway);
  return subnet;
}

std::string AddressPool::Ipv4Of(int index, int service) const {
  return Text4(Address4(base4_, index, kFirstService + service));
}

std::string AddressPool::Ipv6Of(int index, int service) {
  return Address6(index, kFirstService + service);
}

std::string AddressPool::HardwareAddressOf(int index, int service) const {
  const auto bytes = HardwareAddress(Address4(base4_, index, kFirstService + service));
  return absl::StrFormat("%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2], bytes[3],
                         bytes[4], bytes[5]);
}

std::string AddressPool::LinkLocalOf(int index, int service) const {
  const auto bytes = HardwareAddress(Address4(base4_, index, kFirstService + service));
  // RFC 4291, appendix A: the universal bit is turned, ff:fe goes into the middle.
  return Text6({{{0xfe, 0x80, 0, 0, 0, 0, 0, 0, static_cast<uint8_t>(bytes[0] ^ 0x02), bytes[1],
                  bytes[2], 0xff, 0xfe, bytes[3], bytes[4], bytes[5]}}});
}

}  // namespace vibe::network
