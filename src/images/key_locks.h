// One lock per key, for as long as somebody holds or waits for it. Thread-safe.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace vibe::images {

class KeyLocks {
 public:
  // Holds the key until it is destroyed.
  class Hold {
   public:
    Hold(KeyLocks& locks, std::string key) : locks_(&locks), key_(std::move(key)) {}
    Hold(Hold&& other) noexcept : locks_(std::exchange(other.locks_, nullptr)), key_(other.key_) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (locks_ != nullptr) {
        absl::MutexLock lock(&locks_->mutex_);
        locks_->held_.erase(key_);
      }
    }

   private:
    KeyLocks* locks_;
    std::string key_;
  };

  // Waits until the key is free. `keep_waiting` is asked now and then; its error ends the wait.
  absl::StatusOr<Hold> Lock(const std::string& key,
                            const std::function<absl::Status()>& keep_waiting) {
    absl::MutexLock lock(&mutex_);
    const auto is_free = [&] {
      mutex_.AssertReaderHeld();
      return held_.count(key) == 0;
    };
    while (!mutex_.AwaitWithTimeout(absl::Condition(&is_free), absl::Milliseconds(200))) {
      mutex_.Unlock();
      const absl::Status status = keep_waiting();
      mutex_.Lock();
      if (!status.ok()) {
        return status;
      }
    }
    held_.insert(key);
    return Hold(*this, key);
  }

 private:
  absl::Mutex mutex_;
  std::set<std::string> held_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace vibe::images
