#include "state/disk_reserve.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"

namespace vibe::state {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kBlock = 512;
constexpr char kFolder[] = "reserve";
// One fills a leaf of btrfs's trees, whose size is 16 KiB.
constexpr size_t kAttributeBytes = 16'000;
// With less than this for its records btrfs refuses what is not a deletion.
constexpr uint64_t kWorkingMetadata = 16 * kMiB;
// The last part alone has room for records: small disks have few to spare. With 7 MiB left the
// rename of a new file was refused still (Linux 6.18).
constexpr uint64_t kReservedMetadata = 16 * kMiB;
constexpr int kMetadataPart = kReserveParts - 1;

fs::path PathOf(const fs::path& data, int part) {
  return data / kFolder / absl::StrCat(part);
}

absl::StatusOr<FilesystemSpace> SpaceOf(const fs::path& data) {
  const UniqueFd fd(::open(data.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) {
    return ErrnoError(errno, "open the data disk");
  }
  return GetFilesystemSpace(fd.get());
}

// Not a part that a crash left half made.
bool IsHeld(const fs::path& path, const ReservePart& part) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
         static_cast<uint64_t>(info.st_blocks) * kBlock >= part.data &&
         ::lgetxattr(path.c_str(), "user.whole", nullptr, 0) >= 0;
}

absl::Status MakePart(const fs::path& path, const ReservePart& part) {
  const UniqueFd file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid()) {
    return ErrnoError(errno, absl::StrCat("make ", path.string()));
  }
  absl::Cleanup undo = [&] { ::unlink(path.c_str()); };
  if (const int error = ::posix_fallocate(file.get(), 0, static_cast<off_t>(part.data));
      error != 0) {
    return ErrnoError(error, absl::StrCat("allocate ", path.string()));
  }
  const std::string filling(kAttributeBytes, 'r');
  for (uint64_t held = 0; held < part.metadata; held += kAttributeBytes) {
    if (::fsetxattr(file.get(), absl::StrCat("user.", held).c_str(), filling.data(), filling.size(),
                    0) != 0) {
      return ErrnoError(errno, absl::StrCat("allocate records with ", path.string()));
    }
  }
  if (::fsetxattr(file.get(), "user.whole", "", 0, 0) != 0) {
    return ErrnoError(errno, absl::StrCat("finish ", path.string()));
  }
  std::move(undo).Cancel();
  return absl::OkStatus();
}

}  // namespace

ReservePart ReservePartOf(const FilesystemSpace& space, int number) {
  return {.data = std::clamp(space.total / 50, 16 * kMiB, 64 * kMiB) / kReserveParts,
          .metadata = number == kMetadataPart ? std::min(space.total / 64, kReservedMetadata) : 0};
}

absl::StatusOr<bool> HasWorkingRoom(const fs::path& data) {
  VIBE_ASSIGN_OR_RETURN(const FilesystemSpace space, SpaceOf(data));
  return space.available >= ReservePartOf(space, 0).data / 2 &&
         space.MetadataAvailable() >= kWorkingMetadata;
}

absl::StatusOr<bool> YieldReserve(const fs::path& data) {
  VIBE_ASSIGN_OR_RETURN(const FilesystemSpace space, SpaceOf(data));
  const bool records = space.MetadataAvailable() < kWorkingMetadata;
  for (int i = 0; i < kReserveParts; ++i) {
    const int number = records ? kMetadataPart - i : i;
    if (::unlink(PathOf(data, number).c_str()) == 0) {
      const UniqueFd disk(::open(data.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      VIBE_RETURN_IF_ERROR(CommitFilesystem(disk.get()));  // until then it is not free
      return true;
    }
  }
  return false;
}

absl::Status KeepReserve(const fs::path& data) {
  VIBE_ASSIGN_OR_RETURN(FilesystemSpace space, SpaceOf(data));
  for (int number = 0; number < kReserveParts; ++number) {
    const ReservePart part = ReservePartOf(space, number);
    const fs::path path = PathOf(data, number);
    if (IsHeld(path, part)) {
      continue;
    }
    if (space.available < 2 * part.data ||
        space.MetadataAvailable() < kWorkingMetadata + part.metadata) {
      return absl::OkStatus();
    }
    VIBE_RETURN_IF_ERROR(MakeDirectories(data / kFolder, 0700));
    VIBE_RETURN_IF_ERROR(MakePart(path, part));
    VIBE_ASSIGN_OR_RETURN(space, SpaceOf(data));
  }
  return absl::OkStatus();
}

uint64_t MissingReserve(const fs::path& data, const FilesystemSpace& space) {
  uint64_t missing = 0;
  for (int number = 0; number < kReserveParts; ++number) {
    const ReservePart part = ReservePartOf(space, number);
    missing += IsHeld(PathOf(data, number), part) ? 0 : part.data;
  }
  return missing;
}

}  // namespace vibe::state
