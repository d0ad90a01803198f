#include "init/freed_space.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::init {
namespace {

// Smaller holes are not worth a request each: a deleted source tree leaves thousands.
constexpr uint64_t kSmallestHole = 64 << 10;

absl::Status Trim(int directory) {
  // What was freed since the last commit is not free yet to the trim.
  if (::syncfs(directory) != 0) {
    return ErrnoError(errno, "sync the data file system");
  }
  fstrim_range range{.start = 0, .len = UINT64_MAX, .minlen = kSmallestHole};
  if (::ioctl(directory, FITRIM, &range) != 0) {
    return errno == EOPNOTSUPP ? absl::UnimplementedError("the disk takes no trims")
                               : ErrnoError(errno, "trim the data file system");
  }
  return absl::OkStatus();
}

}  // namespace

bool FreedSpace::Due(uint64_t free, absl::Time now) {
  const bool growing = free > last_ + kStill;
  last_ = free;
  if (!started_) {
    started_ = now - start_ >= kAfterStart;
    if (started_) {
      least_ = free;
    }
    return started_;
  }
  least_ = std::min(least_, free);
  if (free - least_ < kWorthIt) {
    waiting_since_ = absl::InfiniteFuture();
    return false;
  }
  waiting_since_ = std::min(waiting_since_, now);
  if (growing && now - waiting_since_ < kPatience) {
    return false;
  }
  least_ = free;
  waiting_since_ = absl::InfiniteFuture();
  return true;
}

absl::Status KeepTrimmed(const std::filesystem::path& target) {
  FreedSpace freed(absl::Now());
  while (true) {
    absl::SleepFor(FreedSpace::kLook);
    // Opened each time: a descriptor that stays would keep the file system from being unmounted.
    const UniqueFd directory(::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct statfs space {};
    if (!directory.valid() || ::fstatfs(directory.get(), &space) != 0) {
      return ErrnoError(errno, "look at the data file system");
    }
    const uint64_t free = space.f_bfree * static_cast<uint64_t>(space.f_bsize);
    if (!freed.Due(free, absl::Now())) {
      continue;
    }
    if (const absl::Status trimmed = Trim(directory.get()); !trimmed.ok()) {
      return absl::IsUnimplemented(trimmed) ? absl::OkStatus() : trimmed;
    }
  }
}

}  // namespace vibe::init
