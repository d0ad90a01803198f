// How large the guest is, and what its kernel is told. Defaults, then what settings and environment
// wish, then what no guest runs with is refused. Pure and thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::vm {

struct GuestOptions {
  uint32_t cpus = 1;
  uint64_t memory_mib = 1024;
  uint64_t disk_mib = 64 << 10;  // of the data disk, which is sparse

  bool operator==(const GuestOptions&) const = default;
};

// All of the host's processors, 8 at most; half of its memory, from 1 to 4 GiB. An emulated guest
// gets two processors and 2 GiB at most: more make it slower.
GuestOptions DefaultGuestOptions(uint32_t host_cpus, uint64_t host_memory_mib, bool emulated);

// What somebody asked for; the rest stays as it is.
struct GuestWishes {
  std::optional<uint32_t> cpus;
  std::optional<uint64_t> memory_mib;
  std::optional<uint64_t> disk_mib;
};

// "2GiB", "3g", "700m", "512" (MiB), "1TiB". InvalidArgument names the text.
absl::StatusOr<uint64_t> ParseMebibytes(absl::string_view text);

// `settings` is the text of machine.json, {"cpus": 2, "memory": "3GiB", "disk": 65536}, or empty.
// The variables VIBE_MACHINE_CPUS, VIBE_MACHINE_MEMORY and VIBE_MACHINE_DISK go before it;
// `environment` gives a variable's value, empty when it is not set. InvalidArgument names the
// setting that is unknown or wrong.
absl::StatusOr<GuestWishes> ParseGuestWishes(
    absl::string_view settings, const std::function<std::string(const char*)>& environment);

// InvalidArgument when the host does not have so many processors, and for less memory than 256 MiB
// or a smaller disk than 512 MiB.
absl::StatusOr<GuestOptions> ApplyWishes(GuestOptions options, const GuestWishes& wishes,
                                         uint32_t host_cpus);

// src/init/guest/settings.h reads it.
struct KernelParameters {
  std::string console;               // "ttyS0", "hvc0"
  std::string uplink;                // "slirp", "dhcp" or "none"
  std::string data_disk;             // "vda"; empty: the disk whose serial number is vibe-data
  std::vector<std::string> listen;   // further addresses for the supervisor: "vsock:1024"
  std::vector<std::string> forward;  // and for forwarded connections
};
std::string KernelCommandLine(const KernelParameters& parameters);

}  // namespace vibe::vm
