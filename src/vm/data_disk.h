// The file behind the machine's data disk. It is sparse: it takes from the host's disk what was
// written to it, not its size. Thread-safe; one machine at a time uses the file.
#pragma once

#include <cstdint>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace vibe::vm {

// Makes the file with mode 0600 when it is missing, and its directory. A smaller one is grown: the
// guest grows its file system at the next boot. A larger one stays as it is. No byte that is in the
// file is ever changed. FailedPrecondition when there is something else than a file.
absl::Status PrepareDataDisk(const std::filesystem::path& path, uint64_t bytes);

struct DataDiskUse {
  uint64_t bytes = 0;      // what the guest sees
  uint64_t allocated = 0;  // what the host's disk gives for it
};

// NotFound when there is no data disk yet.
absl::StatusOr<DataDiskUse> UseOfDataDisk(const std::filesystem::path& path);

}  // namespace vibe::vm
