// Room on a full disk for what frees space or ends an app: parts of the disk's reserve
// (state/disk_reserve.h), given up for the call and taken back when there is room again.
// Thread-safe.
#pragma once

#include <filesystem>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "supervisor/full_disk.h"

namespace vibe::supervisor {

class WorkingRoom {
 public:
  explicit WorkingRoom(std::filesystem::path data) : data_(std::move(data)) {}

  // Gives a part up when the disk is full.
  void Make();

  // DISK_LOW when not even the reserve has room for such a call.
  absl::Status Ensure();

  // While one lives, nothing is taken back.
  class Hold {
   public:
    explicit Hold(WorkingRoom& room) : room_(room) {
      absl::MutexLock lock(&room_.mutex_);
      ++room_.uses_;
    }
    ~Hold() {
      absl::MutexLock lock(&room_.mutex_);
      --room_.uses_;
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    WorkingRoom& room_;
  };

  // Calls, and calls again with another part of the reserve while there is one and the disk is too
  // full: what such a call has done already, it finds done. What fails for want of room all the
  // same is DISK_LOW.
  template <typename Call>
  absl::Status Use(const Call& call) {
    const Hold hold(*this);
    Make();
    absl::Status status = call();
    while (!status.ok() && LacksRoom(status) && GiveUpPart()) {
      status = call();
    }
    return WithFreeSpace(std::move(status), data_);
  }

  // To be called now and then, and not while projects come back: takes back what no call needs any
  // more.
  void TakeBack(absl::Time now);

 private:
  bool LacksRoom(const absl::Status& status) const;
  bool GiveUpPart();

  const std::filesystem::path data_;
  absl::Mutex mutex_;
  int uses_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time made_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace vibe::supervisor
