// What is known of one virtual machine's power, told by its queue and read by everybody.
// Thread-safe.
#pragma once

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "vm/virtual_machine.h"

namespace vibe::vm::vz {

// Off for good once it went off: a late answer to an older request does not bring it back.
class Power {
 public:
  PowerState state() const {
    absl::MutexLock lock(&mutex_);
    return state_;
  }
  void Set(PowerState state) {
    absl::MutexLock lock(&mutex_);
    if (!ended_) {
      state_ = state;
      ended_ = state == PowerState::kOff;
    }
  }
  // False when it is still on after that time.
  bool AwaitOff(absl::Duration timeout) const {
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&ended_), timeout);
  }

 private:
  mutable absl::Mutex mutex_;
  PowerState state_ ABSL_GUARDED_BY(mutex_) = PowerState::kOff;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace vibe::vm::vz
