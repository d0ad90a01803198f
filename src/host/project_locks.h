// One operation at a time on each project: the others wait a little, then are told which one runs.
// Thread-safe.
#pragma once

#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "host/cancellation.h"

namespace vibe::host {

class ProjectLocks {
 public:
  // Lets go when it is destroyed. The ProjectLocks outlive it.
  class Held {
   public:
    Held(ProjectLocks* owner, std::string name) : owner_(owner), name_(std::move(name)) {}
    Held(Held&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), name_(other.name_) {}
    Held& operator=(Held&&) = delete;
    ~Held() {
      if (owner_ != nullptr) {
        const absl::MutexLock lock(&owner_->mutex_);
        owner_->running_.erase(name_);
      }
    }

   private:
    ProjectLocks* owner_;
    std::string name_;
  };

  // Waits up to `patience` for what runs, then Aborted.
  absl::StatusOr<Held> Lock(const std::string& name, const std::string& operation,
                            absl::Duration patience, const Cancellation& cancel) {
    const absl::Time give_up = absl::Now() + patience;
    while (true) {
      VIBE_RETURN_IF_ERROR(cancel.Check());
      {
        const absl::MutexLock lock(&mutex_);
        const auto free = [this, &name] {
          mutex_.AssertReaderHeld();
          return running_.count(name) == 0;
        };
        // In steps, so that a client that goes away does not wait to the end.
        const absl::Time step = std::min(give_up, absl::Now() + absl::Milliseconds(100));
        if (mutex_.AwaitWithDeadline(absl::Condition(&free), step)) {
          running_[name] = operation;
          return Held(this, name);
        }
        if (absl::Now() >= give_up) {
          return WithAdvice(Error(absl::StatusCode::kAborted, Reason::kConflict,
                                  absl::StrCat("another operation on ", name, " is running (",
                                               running_[name], ")")),
                            "try again when it has ended");
        }
      }
    }
  }

 private:
  absl::Mutex mutex_;
  std::map<std::string, std::string> running_ ABSL_GUARDED_BY(mutex_);  // project name to operation
};

}  // namespace vibe::host
