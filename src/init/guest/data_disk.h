// The disk that outlives every boot: found, formatted when it has never been used, mounted, grown.
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/status.h"

namespace vibe::init::guest {

// Waits for the disk whose serial number is "vibe-data" (or the one named `device`), and mounts it
// at `target`. A disk that is not blank is never written to unless it mounts as btrfs: what does
// not is FailedPrecondition with the kernel's last words in its log, and the disk is left as it
// was.
absl::Status MountDataDisk(const std::string& device, const std::filesystem::path& target);

}  // namespace vibe::init::guest
