// Whether a disk has never been used. Reads only.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

namespace vibe::init {

// True when the first and the last MiB are zero and btrfs's further superblocks are not there
// either: that covers where every common file system, partition table, volume manager and RAID has
// its mark.
absl::StatusOr<bool> IsBlank(int fd, uint64_t size);

}  // namespace vibe::init
