// The secret that only the machine's owner on the host has: one boot's, on a small read-only disk,
// which nobody in the machine but its root can read. Thread-safe.
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"

namespace vibe::supervisor {

// From the disk whose serial number is "vibe-secret". Empty when the machine has no such disk: then
// its channels are private without. FailedPrecondition when the disk makes no sense.
absl::StatusOr<std::string> ReadMachineSecret(const std::filesystem::path& sys = "/sys",
                                              const std::filesystem::path& dev = "/dev");

}  // namespace vibe::supervisor
