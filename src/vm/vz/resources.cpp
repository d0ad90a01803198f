#include "vm/vz/resources.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/sha256.h"
#include "base/status.h"

namespace vibe::vm::vz {
namespace {

constexpr uint64_t kMiB = 1 << 20;

absl::Status Within(uint64_t value, uint64_t min, uint64_t max, absl::string_view what) {
  return value >= min && value <= max ? absl::OkStatus()
                                      : WithAdvice(absl::InvalidArgumentError(absl::StrCat(
                                                       "the machine cannot have ", value, " ", what,
                                                       "; this Mac allows ", min, " to ", max)),
                                                   "change cpus or memory in machine.json, or "
                                                   "VIBE_MACHINE_CPUS or VIBE_MACHINE_MEMORY");
}

}  // namespace

absl::Status CheckResources(const GuestOptions& options, const ResourceLimits& limits) {
  // Inwards: a bound that is no whole number of MiB must not be crossed by rounding.
  const uint64_t min_mib = (limits.min_memory_bytes + kMiB - 1) / kMiB;
  const uint64_t max_mib = limits.max_memory_bytes / kMiB;
  VIBE_RETURN_IF_ERROR(Within(options.cpus, limits.min_cpus, limits.max_cpus, "processors"));
  return Within(options.memory_mib, min_mib, max_mib, "MiB of memory");
}

std::string StableMacAddress(absl::string_view seed) {
  const std::string digest = Sha256Raw(seed);
  // Of the first byte, bit 0 would be multicast and bit 1 is "locally administered".
  std::string address = "02";
  for (size_t i = 0; i < 5; ++i) {
    absl::StrAppendFormat(&address, ":%02x", static_cast<unsigned char>(digest[i]));
  }
  return address;
}

}  // namespace vibe::vm::vz
