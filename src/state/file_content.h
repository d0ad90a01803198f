// The digest of one file's bytes, which passes over holes. Inside this room only.
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"

namespace vibe::state {

// 32 raw bytes. `fd` is a regular file of `size` bytes, which must not change meanwhile; its offset
// does. Errors are of errno; Cancelled when asked to stop. Thread-safe.
absl::StatusOr<std::string> DigestContent(int fd, uint64_t size, const std::stop_token& stop);

}  // namespace vibe::state
