#include "init/blank.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "base/status.h"

namespace vibe::init {
namespace {

constexpr uint64_t kEdge = 1 << 20;
// Where btrfs keeps copies of its superblock, on disks that are large enough.
constexpr uint64_t kBtrfsCopies[] = {64ULL << 20, 256ULL << 30};
constexpr uint64_t kSuperblock = 4096;

absl::StatusOr<bool> IsZero(int fd, uint64_t offset, uint64_t length) {
  std::string buffer(length, '\0');
  size_t done = 0;
  while (done < length) {
    const ssize_t count =
        ::pread(fd, buffer.data() + done, length - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return ErrnoError(errno, "read the disk");
    }
    if (count == 0) {
      return absl::DataLossError("the disk ends before its end");
    }
    done += static_cast<size_t>(count);
  }
  return std::all_of(buffer.begin(), buffer.end(), [](char c) { return c == '\0'; });
}

}  // namespace

absl::StatusOr<bool> IsBlank(int fd, uint64_t size) {
  const uint64_t edge = std::min(kEdge, size);
  VIBE_ASSIGN_OR_RETURN(bool blank, IsZero(fd, 0, edge));
  if (blank) {
    VIBE_ASSIGN_OR_RETURN(blank, IsZero(fd, size - edge, edge));
  }
  for (const uint64_t copy : kBtrfsCopies) {
    if (blank && copy + kSuperblock <= size) {
      VIBE_ASSIGN_OR_RETURN(blank, IsZero(fd, copy, kSuperblock));
    }
  }
  return blank;
}

}  // namespace vibe::init
