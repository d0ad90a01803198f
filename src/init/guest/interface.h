// One network interface, set up with ioctl(2). Addresses are in network byte order.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace vibe::init::guest {

inline constexpr char kInterface[] = "eth0";

// Waits for the interface to appear, and brings it up without an address.
absl::Status BringUp(const std::string& interface);
absl::StatusOr<std::array<uint8_t, 6>> HardwareAddress(const std::string& interface);
absl::Status SetAddress(const std::string& interface, uint32_t address, uint32_t netmask);
absl::Status SetDefaultRoute(const std::string& interface, uint32_t router);

std::string AddressText(uint32_t address);                    // "10.0.2.15"
std::string NetworkText(uint32_t address, uint32_t netmask);  // "10.0.2.0/24"

}  // namespace vibe::init::guest
