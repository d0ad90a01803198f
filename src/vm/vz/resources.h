// What Apple's framework allows a guest, and the address that its network knows it by. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "vm/guest_options.h"

namespace vibe::vm::vz {

struct ResourceLimits {
  uint64_t min_cpus = 1;
  uint64_t max_cpus = 1;
  uint64_t min_memory_bytes = 0;
  uint64_t max_memory_bytes = 0;
};

// InvalidArgument, with the bounds, when the framework would refuse such a guest.
absl::Status CheckResources(const GuestOptions& options, const ResourceLimits& limits);

// A unicast, locally administered address, the same for the same text at every boot: a DHCP server
// that sees a new one each time runs out of leases.
std::string StableMacAddress(absl::string_view seed);

}  // namespace vibe::vm::vz
