#include "init/freed_space.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::init {
namespace {

// Smaller holes are not worth a request each: a deleted source tree leaves thousands.
constexpr uint64_t kSmallestHole = 64 << 10;

absl::StatusOr<uint64_t> FreeBytes(const std::filesystem::path& target) {
  struct statfs space {};
  if (::statfs(target.c_str(), &space) != 0) {
    return ErrnoError(errno, "look at the data file system");
  }
  return space.f_bfree * static_cast<uint64_t>(space.f_bsize);
}

absl::Status Trim(const std::filesystem::path& target) {
  // Opened each time: a descriptor that stays would keep the file system from being unmounted.
  const UniqueFd directory(::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // What was freed since the last commit is not free yet to the trim.
  if (!directory.valid() || ::syncfs(directory.get()) != 0) {
    return ErrnoError(errno, "sync the data file system");
  }
  fstrim_range range{.start = 0, .len = UINT64_MAX, .minlen = kSmallestHole};
  if (::ioctl(directory.get(), FITRIM, &range) != 0) {
    return errno == EOPNOTSUPP ? absl::UnimplementedError("the disk takes no trims")
                               : ErrnoError(errno, "trim the data file system");
  }
  return absl::OkStatus();
}

}  // namespace

bool FreedSpace::Due(uint64_t free, absl::Time now) {
  const bool growing = free > last_ + kStill;
  last_ = free;
  least_ = std::min(least_, free);
  if (!started_ && now - start_ >= kAfterStart) {
    started_ = true;
  } else if (free - least_ < kWorthIt) {
    waiting_since_ = absl::InfiniteFuture();
    return false;
  } else {
    waiting_since_ = std::min(waiting_since_, now);
    if (growing && now - waiting_since_ < kPatience) {
      return false;
    }
  }
  least_ = free;
  waiting_since_ = absl::InfiniteFuture();
  return true;
}

absl::Status KeepTrimmed(const std::filesystem::path& target) {
  VIBE_ASSIGN_OR_RETURN(uint64_t free, FreeBytes(target));
  FreedSpace freed(free, absl::Now());
  while (true) {
    absl::SleepFor(FreedSpace::kLook);
    VIBE_ASSIGN_OR_RETURN(free, FreeBytes(target));
    if (!freed.Due(free, absl::Now())) {
      continue;
    }
    if (const absl::Status trimmed = Trim(target); !trimmed.ok()) {
      return absl::IsUnimplemented(trimmed) ? absl::OkStatus() : trimmed;
    }
  }
}

}  // namespace vibe::init
