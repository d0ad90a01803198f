// Network interfaces of the calling thread's network namespace, by the kernel's classic ioctls.
// Thread-safe.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "network/network.h"

namespace vibe::network {

absl::Status BringLoopbackUp();

// Interfaces that appear from now on in this network namespace use their IPv6 addresses at once,
// without asking first whether somebody else has them, and take no advice from neighbours on
// routes.
absl::Status TrustPlannedAddresses();

// Makes the bridge with the gateway's addresses and brings it up. Returns false when it was there.
absl::StatusOr<bool> MakeBridge(const Subnet& subnet);
absl::Status DeleteBridge(const std::string& bridge);  // one that is not there is a success

// The interface's IPv4 address; NotFound when there is no such interface or it has none.
absl::StatusOr<std::string> Ipv4AddressOf(const std::string& interface);

}  // namespace vibe::network
