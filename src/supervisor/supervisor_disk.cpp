// The room on the data disk: watched, so that users hear of it before anything is refused.
#include <fcntl.h>

#include "absl/time/clock.h"
#include "base/unique_fd.h"
#include "spdlog/spdlog.h"
#include "state/subvolume.h"
#include "supervisor/disk_space.h"
#include "supervisor/supervisor.h"

namespace vibe::supervisor {
namespace {

constexpr absl::Duration kLook = absl::Seconds(2);
constexpr absl::Duration kMeasureLimit = absl::Milliseconds(200);

}  // namespace

absl::Status Supervisor::CheckSpace(uint64_t needed) const {
  return supervisor::CheckSpace(options_.data, options_.disk_host, needed);
}

SpaceReport Supervisor::Space() {
  absl::MutexLock lock(&mutex_);
  const uint64_t asked = ++space_asked_;
  const auto measured = [this, asked] {
    mutex_.AssertReaderHeld();
    return closing_ || space_measured_ >= asked;
  };
  mutex_.AwaitWithTimeout(absl::Condition(&measured), kMeasureLimit);
  return space_;
}

// By a thread of its own: a disk that does not answer must not keep Health from it.
void Supervisor::WatchSpace() {
  const auto wanted = [this] {
    mutex_.AssertReaderHeld();
    return closing_ || space_asked_ > space_measured_;
  };
  absl::Time freed = absl::InfinitePast();
  while (true) {
    uint64_t asked = 0;
    bool recovered = false;
    {
      absl::MutexLock lock(&mutex_);
      asked = space_asked_;
      recovered = recovering_.empty();
    }
    if (recovered) {
      working_room_.TakeBack(absl::Now());
    }
    const auto report = MeasureSpace(options_.data, options_.disk_host);
    if (report.ok() && report->level == SpaceLevel::kFull && !report->on_host &&
        absl::Now() - freed >= kLook) {
      freed = absl::Now();  // what was removed to make room is missed
      const UniqueFd disk(::open(options_.data.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      state::CommitAndFree(disk.get()).IgnoreError();
    }
    absl::MutexLock lock(&mutex_);
    space_measured_ = asked;
    if (report.ok()) {
      if (report->level != space_.level && report->level != SpaceLevel::kPlenty) {
        spdlog::warn("{}", report->warning);
      }
      space_ = *report;
    }
    mutex_.AwaitWithTimeout(absl::Condition(&wanted), kLook);
    if (closing_) {
      return;
    }
  }
}

}  // namespace vibe::supervisor
