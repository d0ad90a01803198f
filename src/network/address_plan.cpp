#include <arpa/inet.h>

#include <array>

#include "absl/strings/str_cat.h"
#include "network/network.h"

namespace vibe::network {
namespace {

constexpr uint32_t kBase4 = (10U << 24) | (64U << 16);  // 10.64.0.0
constexpr int kPrefix4 = 22;
constexpr int kGateway = 1;
constexpr int kFirstService = 2;

std::string Address4(int index, int host) {
  const in_addr address{htonl(kBase4 + (static_cast<uint32_t>(index) << (32 - kPrefix4)) +
                              static_cast<uint32_t>(host))};
  std::array<char, INET_ADDRSTRLEN> text{};
  return ::inet_ntop(AF_INET, &address, text.data(), text.size());
}

std::string Address6(int index, int host) {
  in6_addr address{{{0xfd, 0x76, 0x69, 0x62, 0x00, 0x65}}};
  address.s6_addr[6] = static_cast<uint8_t>(index >> 8);
  address.s6_addr[7] = static_cast<uint8_t>(index);
  address.s6_addr[14] = static_cast<uint8_t>(host >> 8);
  address.s6_addr[15] = static_cast<uint8_t>(host);
  std::array<char, INET6_ADDRSTRLEN> text{};
  return ::inet_ntop(AF_INET6, &address, text.data(), text.size());
}

}  // namespace

Subnet SubnetOf(int index) {
  Subnet subnet;
  subnet.bridge = absl::StrCat("vibe-", index);
  subnet.ipv4_subnet = absl::StrCat(Address4(index, 0), "/", subnet.prefix4);
  subnet.ipv4_gateway = Address4(index, kGateway);
  subnet.ipv6_subnet = absl::StrCat(Address6(index, 0), "/", subnet.prefix6);
  subnet.ipv6_gateway = Address6(index, kGateway);
  return subnet;
}

std::string Ipv4Of(int index, int service) {
  return Address4(index, kFirstService + service);
}

std::string Ipv6Of(int index, int service) {
  return Address6(index, kFirstService + service);
}

}  // namespace vibe::network
