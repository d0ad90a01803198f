// VIBE_HOME: finding it, making it private, and holding it for one vibed alone.
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace vibe::host {

inline constexpr char kSocketName[] = "vibed.sock";

// `given` when it is not empty, else the environment's VIBE_HOME, else ~/.vibe. Absolute.
// InvalidArgument when a unix socket in it, or in the machine's directory, would have too long a
// path.
absl::StatusOr<std::filesystem::path> FindHome(const std::string& given);

// Makes the directory with mode 0700. An existing one that others can write to is PermissionDenied.
absl::Status PrepareHome(const std::filesystem::path& home);

// Held as long as the result lives, and no longer than this process. AlreadyExists names the
// process that holds it.
absl::StatusOr<UniqueFd> LockHome(const std::filesystem::path& home);

}  // namespace vibe::host
