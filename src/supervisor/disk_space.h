// Whether there is room on the data disk to go on. Pure but for CheckSpace and MeasureSpace.
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "state/subvolume.h"

namespace vibe::supervisor {

enum class SpaceLevel { kPlenty, kLow, kFull };

// Low: the user should be told. Full: what would need more space is refused while there is still
// enough for what runs to write, and for deleting: on btrfs that needs space too. `host_available`
// is what the file system that holds the disk's file can still take.
SpaceLevel LevelOf(const state::FilesystemSpace& space, uint64_t host_available);

// DISK_LOW, with what to delete, when the file system of `data` is full as above. `host`: a folder
// on the file system that holds the disk's file; empty when that is not known here. `needed`: bytes
// that will be taken, after which it is not to be full.
absl::Status CheckSpace(const std::filesystem::path& data, const std::filesystem::path& host,
                        uint64_t needed = 0);

struct SpaceReport {
  SpaceLevel level = SpaceLevel::kPlenty;
  uint64_t total = 0, available = 0;  // bytes, of the data disk
  bool on_host = false;               // it is the host's disk that has less
  std::string warning;  // what is left, what is refused and what to delete; empty with kPlenty
};
SpaceReport ReportOf(const state::FilesystemSpace& space, uint64_t host_available);
absl::StatusOr<SpaceReport> MeasureSpace(const std::filesystem::path& data,
                                         const std::filesystem::path& host);

}  // namespace vibe::supervisor
