#include "supervisor/disk_space.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "state/disk_reserve.h"

namespace vibe::supervisor {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kMostFullBytes = 512 * kMiB;
constexpr uint64_t kMostLowBytes = 4096 * kMiB;
constexpr uint64_t kFullMetadata = 32 * kMiB;
constexpr uint64_t kLowMetadata = 128 * kMiB;
// However small the disk is: btrfs reserves for the worst case, and a rename was refused with 11
// MiB left by this count (Linux 6.18).
constexpr uint64_t kLeastFullMetadata = 16 * kMiB;
constexpr uint64_t kLeastLowMetadata = 24 * kMiB;

constexpr char kHostAdvice[] = "Free space on this computer";
constexpr char kDiskAdvice[] =
    "Remove snapshots with `vibe snapshot rm`, or projects that you no longer need with `vibe rm`; "
    "or give the machine a larger \"disk\" in machine.json";

std::string Size(uint64_t bytes) {
  return bytes < 1024 * kMiB ? absl::StrFormat("%d MiB", bytes / kMiB)
                             : absl::StrFormat("%.1f GiB", static_cast<double>(bytes) /
                                                               static_cast<double>(1024 * kMiB));
}

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
  // What is given up for a moment is for nothing else.
  room.disk.available -= std::min(room.disk.available, state::MissingReserve(data, room.disk));
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
      metadata < std::clamp(space.total / 100, kLeastFullMetadata, kFullMetadata)) {
    return SpaceLevel::kFull;
  }
  if (available < std::min(kMostLowBytes, space.total / 10) ||
      metadata < std::clamp(space.total / 50, kLeastLowMetadata, kLowMetadata)) {
    return SpaceLevel::kLow;
  }
  return SpaceLevel::kPlenty;
}

SpaceReport ReportOf(const state::FilesystemSpace& space, uint64_t host_available) {
  SpaceReport report{.level = LevelOf(space, host_available),
                     .total = space.total,
                     .available = space.available,
                     .on_host = host_available < space.available,
                     .warning = ""};
  if (report.level == SpaceLevel::kPlenty) {
    return report;
  }
  const bool on_host = report.on_host;
  std::string left =
      on_host ? absl::StrCat("this computer's disk is nearly full: ", Size(host_available), " left")
              : absl::StrCat("the machine's disk is nearly full: ", Size(space.available),
                             " left of ", Size(space.total));
  if (!on_host && space.available >= std::min(kMostLowBytes, space.total / 10)) {
    absl::StrAppend(&left, ", but only ", Size(space.MetadataAvailable()),
                    " for the file system's own records");
  }
  report.warning = absl::StrCat(left,
                                report.level == SpaceLevel::kFull
                                    ? "; apps are not opened and data is not saved any more. "
                                    : ". ",
                                on_host ? kHostAdvice : kDiskAdvice);
  return report;
}

absl::StatusOr<SpaceReport> MeasureSpace(const std::filesystem::path& data,
                                         const std::filesystem::path& host) {
  VIBE_ASSIGN_OR_RETURN(const Room room, Measure(data, host));
  return ReportOf(room.disk, room.host);
}

absl::Status CheckSpace(const std::filesystem::path& data, const std::filesystem::path& host,
                        uint64_t needed) {
  VIBE_ASSIGN_OR_RETURN(Room room, Measure(data, host));
  const auto full = [&] {
    state::FilesystemSpace after = room.disk;
    after.available -= std::min(after.available, needed);
    return LevelOf(after, room.host - std::min(room.host, needed)) == SpaceLevel::kFull;
  };
  if (full()) {
    // What was deleted just now is free when the file system has committed.
    const UniqueFd fd(::open(data.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    VIBE_RETURN_IF_ERROR(state::CommitFilesystem(fd.get()));
    VIBE_ASSIGN_OR_RETURN(room, Measure(data, host));
  }
  if (!full()) {
    return absl::OkStatus();
  }
  const bool on_host = room.host < room.disk.available;
  return WithAdvice(
      Error(
          absl::StatusCode::kResourceExhausted, Reason::kDiskLow,
          absl::StrFormat(
              "%s is almost full: %d MiB are free, and %d MiB for the file system's "
              "own records%s",
              on_host ? "this computer's disk" : "the machine's disk",
              std::min(room.disk.available, room.host) / kMiB, room.disk.MetadataAvailable() / kMiB,
              needed < kMiB ? "" : absl::StrFormat("; this needs %d MiB", needed / kMiB))),
      on_host ? kHostAdvice : kDiskAdvice);
}

}  // namespace vibe::supervisor
