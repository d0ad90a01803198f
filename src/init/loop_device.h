// A file as a block device, for as long as something uses it. Needs root; one thread.
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace vibe::init {

// The device goes away by itself when it is neither open nor mounted any more, however its users
// ended. Until then it holds a lock (flock) on the file.
struct LoopDevice {
  std::string path;  // "/dev/loop3"
  UniqueFd fd;       // keeps the device until it is mounted
};

// Waits for a device that another process had on the file, at most until `deadline`: two on one
// file would destroy its file system. DeadlineExceeded after that; FailedPrecondition with advice
// on a host without loop devices.
absl::StatusOr<LoopDevice> AttachLoopDevice(const std::filesystem::path& file, absl::Time deadline);

// Waits until no loop device and nothing else holds the file's lock.
absl::Status AwaitDetached(const std::filesystem::path& file, absl::Time deadline);

}  // namespace vibe::init
