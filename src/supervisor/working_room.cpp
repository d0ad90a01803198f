#include "supervisor/working_room.h"

#include "absl/time/clock.h"
#include "base/status.h"
#include "spdlog/spdlog.h"
#include "state/disk_reserve.h"
#include "supervisor/full_disk.h"

namespace vibe::supervisor {
namespace {

// What a call leaves behind works on: containerd tidies up, subvolumes go in the background.
constexpr absl::Duration kRest = absl::Seconds(3);

}  // namespace

// Not all who find the disk full say so: SQLite tells of a disk I/O error.
bool WorkingRoom::LacksRoom(const absl::Status& status) const {
  const absl::StatusOr<bool> room = state::HasWorkingRoom(data_);
  return ReasonOf(MarkFullDisk(status)) == Reason::kDiskLow || (room.ok() && !*room);
}

bool WorkingRoom::GiveUpPart() {
  absl::MutexLock lock(&mutex_);
  const absl::StatusOr<bool> yielded = state::YieldReserve(data_);
  if (!yielded.ok()) {
    spdlog::warn("the disk's reserve: {}", yielded.status().ToString());
    return false;
  }
  if (*yielded) {
    spdlog::warn("the disk is full: a part of its reserve was given up");
    made_ = absl::Now();
  }
  return *yielded;
}

void WorkingRoom::Make() {
  if (const absl::StatusOr<bool> room = state::HasWorkingRoom(data_); room.ok() && !*room) {
    GiveUpPart();
  }
}

absl::Status WorkingRoom::Ensure() {
  Make();
  const absl::StatusOr<bool> room = state::HasWorkingRoom(data_);
  return !room.ok() || *room
             ? room.status()
             : WithFreeSpace(absl::ResourceExhaustedError("no space left on device"), data_);
}

void WorkingRoom::TakeBack(absl::Time now) {
  absl::MutexLock lock(&mutex_);
  if (uses_ > 0 || now - made_ < kRest) {
    return;
  }
  if (const absl::Status kept = state::KeepReserve(data_); !kept.ok()) {
    spdlog::debug("the disk's reserve: {}", kept.ToString());  // the next look tries again
  }
}

}  // namespace vibe::supervisor
