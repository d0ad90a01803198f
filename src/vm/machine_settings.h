// What this computer's machine is like: its settings' file, the environment and the computer itself
// together. Thread-safe.
#pragma once

#include <filesystem>

#include "absl/status/statusor.h"
#include "vm/guest_options.h"

namespace vibe::vm {

// Reads home/machine.json, which need not be there, and this process's environment.
absl::StatusOr<GuestOptions> ReadGuestOptions(const std::filesystem::path& home, bool emulated);

}  // namespace vibe::vm
