#include "supervisor/disk_space.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::supervisor {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kMostFullBytes = 512 * kMiB;
constexpr uint64_t kMostLowBytes = 4096 * kMiB;
constexpr uint64_t kFullMetadata = 32 * kMiB;
constexpr uint64_t kLowMetadata = 128 * kMiB;

struct Room {
  state::FilesystemSpace disk;
  uint64_t host = std::numeric_limits<uint64_t>::max();
};

absl::StatusOr<Room> Measure(const std::filesystem::path& data, const std::filesystem::path& host) {
  Room room;
  const UniqueFd fd(::open(data.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) {
    return ErrnoError(errno, "open the data disk");
  }
  VIBE_ASSIGN_OR_RETURN(room.disk, state::GetFilesystemSpace(fd.get()));
  struct statvfs info {};
  if (!host.empty() && ::statvfs(host.c_str(), &info) == 0) {
    room.host = uint64_t{info.f_bavail} * info.f_frsize;
  }
  return room;
}

}  // namespace

SpaceLevel LevelOf(const state::FilesystemSpace& space, uint64_t host_available) {
  const uint64_t available = std::min(space.available, host_available);
  const uint64_t metadata = space.MetadataAvailable();
  if (available < std::min(kMostFullBytes, space.total / 50) ||
      metadata < std::min(kFullMetadata, space.total / 100)) {
    return SpaceLevel::kFull;
  }
  if (available < std::min(kMostLowBytes, space.total / 10) ||
      metadata < std::min(kLowMetadata, space.total / 50)) {
    return SpaceLevel::kLow;
  }
  return SpaceLevel::kPlenty;
}

absl::StatusOr<SpaceLevel> MeasureSpace(const std::filesystem::path& data,
                                        const std::filesystem::path& host) {
  VIBE_ASSIGN_OR_RETURN(const Room room, Measure(data, host));
  return LevelOf(room.disk, room.host);
}

absl::Status CheckSpace(const std::filesystem::path& data, const std::filesystem::path& host) {
  VIBE_ASSIGN_OR_RETURN(Room room, Measure(data, host));
  if (LevelOf(room.disk, room.host) == SpaceLevel::kFull) {
    // What was deleted just now is free when the file system has committed.
    const UniqueFd fd(::open(data.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    VIBE_RETURN_IF_ERROR(state::CommitFilesystem(fd.get()));
    VIBE_ASSIGN_OR_RETURN(room, Measure(data, host));
  }
  if (LevelOf(room.disk, room.host) != SpaceLevel::kFull) {
    return absl::OkStatus();
  }
  const bool on_host = room.host < room.disk.available;
  return WithAdvice(
      Error(absl::StatusCode::kResourceExhausted, Reason::kDiskLow,
            absl::StrFormat("%s is almost full: %d MiB are free, and %d MiB for the file system's "
                            "own records",
                            on_host ? "this computer's disk" : "the machine's disk",
                            std::min(room.disk.available, room.host) / kMiB,
                            room.disk.MetadataAvailable() / kMiB)),
      on_host
          ? "free space on this computer"
          : "remove snapshots with `vibe snapshot rm`, or projects that you no longer need with "
            "`vibe rm`; or give the machine a larger disk in machine.json");
}

}  // namespace vibe::supervisor
