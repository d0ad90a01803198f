// Says to work that goes on that nobody wants its result any more. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace vibe::host {

class Cancellation {
 public:
  Cancellation() = default;
  Cancellation(const Cancellation&) = delete;
  Cancellation& operator=(const Cancellation&) = delete;

  // Once; calls what is registered, on this thread. `why` is for whoever waits for the result.
  void Cancel(std::string why = "the request was cancelled") {
    const absl::MutexLock lock(&mutex_);
    if (std::exchange(cancelled_, true)) {
      return;
    }
    why_ = std::move(why);
    for (const auto& [id, callback] : callbacks_) {
      callback();
    }
  }

  bool cancelled() const {
    const absl::MutexLock lock(&mutex_);
    return cancelled_;
  }

  // Cancelled when it is, with the reason.
  absl::Status Check() const {
    const absl::MutexLock lock(&mutex_);
    return cancelled_ ? absl::CancelledError(why_) : absl::OkStatus();
  }

  // Returns early, and false, when it is cancelled.
  bool SleepFor(absl::Duration duration) const {
    const absl::MutexLock lock(&mutex_);
    return !mutex_.AwaitWithTimeout(absl::Condition(&cancelled_), duration);
  }

  // Calls `callback` when it is cancelled (at once when it was already), until this object is gone.
  // The callback must be short and must not touch the Cancellation.
  class Registration {
   public:
    Registration(Cancellation& owner, std::function<void()> callback) : owner_(owner) {
      const absl::MutexLock lock(&owner_.mutex_);
      if (owner_.cancelled_) {
        callback();
      }
      id_ = owner_.next_id_++;
      owner_.callbacks_[id_] = std::move(callback);
    }
    ~Registration() {
      const absl::MutexLock lock(&owner_.mutex_);
      owner_.callbacks_.erase(id_);
    }
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;

   private:
    Cancellation& owner_;
    uint64_t id_ = 0;
  };

 private:
  mutable absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::string why_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::function<void()>> callbacks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace vibe::host
