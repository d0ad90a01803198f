// A full disk has many messengers: errno, containerd's answers, SQLite, the container runtime. Here
// they become one error, DISK_LOW, that says how much is free. Thread-safe.
#pragma once

#include <filesystem>

#include "absl/status/status.h"

namespace vibe::supervisor {

// The reason DISK_LOW and an advice when the error's text says that the disk is full; else
// unchanged.
absl::Status MarkFullDisk(absl::Status status);

// The same, and what is free on the disk of `path` in the message of a DISK_LOW error.
absl::Status WithFreeSpace(absl::Status status, const std::filesystem::path& path);

}  // namespace vibe::supervisor
