// DHCP messages (RFC 2131, options of RFC 2132) as bytes: what a client sends and what it reads.
// Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace vibe::init::guest {

// Addresses are in network byte order, as in the messages and in in_addr.
struct Lease {
  uint32_t address = 0;
  uint32_t netmask = 0;
  uint32_t router = 0;  // 0: none
  std::vector<uint32_t> nameservers;
  uint32_t server = 0;
  uint32_t seconds = 0;  // 0xffffffff: for ever
};

enum class DhcpType : uint8_t { kDiscover = 1, kOffer = 2, kRequest = 3, kAck = 5, kNak = 6 };

struct DhcpRequest {
  DhcpType type = DhcpType::kDiscover;
  uint32_t transaction = 0;
  std::array<uint8_t, 6> hardware = {};
  uint32_t requested = 0;  // the offered address; 0 when none or when renewing
  uint32_t server = 0;     // who offered it
  uint32_t current = 0;    // the address that is renewed
  std::string hostname;
};

std::string EncodeDhcp(const DhcpRequest& request);

struct DhcpReply {
  DhcpType type = DhcpType::kOffer;
  Lease lease;
};

// Nothing for a packet that is not a well-formed reply to this transaction of this hardware
// address.
std::optional<DhcpReply> DecodeDhcp(absl::string_view packet, uint32_t transaction,
                                    const std::array<uint8_t, 6>& hardware);

}  // namespace vibe::init::guest
