// Whether the host's disk has room for what a machine writes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/status/status.h"

namespace vibe::vm {

// With less than this a machine cannot be kept running: its file system, its logs and our own
// records need a few MiB at any time.
inline constexpr uint64_t kLeastRoom = 64 << 20;

// Empty when the file system of `directory` (or of the folder above it that is there) has
// kLeastRoom for this user; else what is wrong, for the user to read. What cannot be asked has
// room.
std::string NoRoom(const std::filesystem::path& directory);

// The same as an error, DISK_LOW, for a machine that is to be started there.
absl::Status CheckRoom(const std::filesystem::path& directory);

}  // namespace vibe::vm
