// What one boot of the machine is made of, decided before it and remembered in run/boot.json, so
// that a vibed that finds the machine running knows how to reach it.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::vm::qemu {

// How streams reach the guest.
enum class Transport {
  kVhost,   // AF_VSOCK through the host's kernel; each stream begins with the boot's secret
  kDevice,  // AF_VSOCK through vhost-device-vsock and its private unix socket
  kSerial,  // gRPC over one virtio-serial port, the rest over a loopback port with the secret
};
absl::string_view TransportName(Transport transport);  // "vhost-vsock", …

struct Boot {
  Transport transport = Transport::kDevice;
  bool kvm = false;
  uint32_t cid = 3;           // the guest's address
  uint16_t forward_port = 0;  // on the host's loopback, for kSerial
  std::string secret;         // 64 hex digits; empty for kDevice
  bool resumed = false;       // the guest goes on from a save
  std::string made_of = {};   // MadeOf (save.h): a guest that is saved goes on with the same only

  bool operator==(const Boot&) const = default;
};

std::string FormatBoot(const Boot& boot);
absl::StatusOr<Boot> ParseBoot(absl::string_view text);

}  // namespace vibe::vm::qemu
