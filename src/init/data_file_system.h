// The file system that outlives every boot: btrfs on the machine's data disk, formatted when the
// disk has never been used, mounted, grown. The same for a VM's disk and for the native machine's
// file. Needs root; one thread.
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/status.h"

namespace vibe::init {

// Mounts the block device `device` at `target`, which is made. A disk that is not blank is never
// written to unless it mounts as btrfs: what does not is FailedPrecondition with the kernel's last
// words in its log, and the disk is left as it was. `mkfs` is mkfs.btrfs, run for a blank disk
// only.
absl::Status MountDataFileSystem(const std::string& device, const std::filesystem::path& target,
                                 const std::filesystem::path& mkfs);

}  // namespace vibe::init
