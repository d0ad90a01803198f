// Stream sockets of the local machine. Thread-safe.
#pragma once

#include <filesystem>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace vibe {

// Listens at `path` with mode 0600. A socket file that nobody listens on is replaced; a live one,
// and anything that is no socket, is AlreadyExists. InvalidArgument when the path is longer than
// the platform allows (about 100 bytes).
absl::StatusOr<UniqueFd> ListenUnix(const std::filesystem::path& path);

// Unavailable when nobody listens.
absl::StatusOr<UniqueFd> ConnectUnix(const std::filesystem::path& path);

}  // namespace vibe
