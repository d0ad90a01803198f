// One operation at a time on each project: the others wait a little, then are told which one runs.
// Those that end a project (stop, rm) do not wait for one that starts it: they cancel it. Closed
// for a while, nobody gets a lock. What the background could not do to a project meanwhile is done
// when the operation on it has ended. Thread-safe.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>

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
      if (owner_ != nullptr && owner_->Release(name_)) {
        owner_->missed_(name_);
      }
    }

   private:
    ProjectLocks* owner_;
    std::string name_;
  };

  // Opens again when it is destroyed.
  class Closed {
   public:
    explicit Closed(ProjectLocks* owner) : owner_(owner) {}
    Closed(Closed&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
    Closed& operator=(Closed&&) = delete;
    ~Closed() {
      if (owner_ != nullptr) {
        const absl::MutexLock lock(&owner_->mutex_);
        owner_->closed_by_.clear();
      }
    }
    // Whether all that ran when it was closed has ended, waiting for it up to `patience`.
    bool AwaitIdle(absl::Duration patience) const {
      const absl::MutexLock lock(&owner_->mutex_);
      return owner_->AwaitIdle(patience);
    }

   private:
    ProjectLocks* owner_;
  };

  // `missed` is called by the thread that let go of a project which kBackground wanted meanwhile.
  explicit ProjectLocks(std::function<void(const std::string& name)> missed)
      : missed_(std::move(missed)) {}

  // Cancels what users began and lets nothing new begin; for what works on all projects at once.
  // Aborted when it is closed already.
  absl::StatusOr<Closed> Close(const std::string& operation) {
    const absl::MutexLock lock(&mutex_);
    if (!closed_by_.empty()) {
      return Error(absl::StatusCode::kAborted, Reason::kConflict,
                   absl::StrCat("another operation on all projects is running (", closed_by_, ")"));
    }
    closed_by_ = operation;
    CancelRunning(operation);
    return Closed(this);
  }

  // Cancels what users began, and waits up to `patience` until nothing runs.
  void Interrupt(const std::string& operation, absl::Duration patience) {
    const absl::MutexLock lock(&mutex_);
    CancelRunning(operation);
    AwaitIdle(patience);
  }

  // kUser may be cancelled by kEnding; kBackground neither cancels nor is cancelled.
  enum class Priority { kBackground, kUser, kEnding };

  // Waits up to `patience` for what runs, then Aborted. `cancel` outlives what is returned.
  absl::StatusOr<Held> Lock(const std::string& name, const std::string& operation,
                            absl::Duration patience, Cancellation& cancel, Priority priority) {
    const absl::Time give_up = absl::Now() + patience;
    while (true) {
      VIBE_RETURN_IF_ERROR(cancel.Check());
      {
        const absl::MutexLock lock(&mutex_);
        const auto free = [this, &name] {
          mutex_.AssertReaderHeld();
          return closed_by_.empty() && running_.count(name) == 0;
        };
        // In steps, so that a client that goes away does not wait to the end.
        const absl::Time step = std::min(give_up, absl::Now() + absl::Milliseconds(100));
        if (mutex_.AwaitWithDeadline(absl::Condition(&free), step)) {
          running_[name] = {operation, priority == Priority::kUser ? &cancel : nullptr, false};
          return Held(this, name);
        }
        const auto running = running_.find(name);
        if (running != running_.end() && priority == Priority::kEnding &&
            running->second.cancel != nullptr) {
          running->second.cancel->Cancel(EndedBy(operation));
        }
        if (absl::Now() >= give_up) {
          if (running != running_.end() && priority == Priority::kBackground) {
            running->second.missed = true;
          }
          return WithAdvice(
              Error(absl::StatusCode::kAborted, Reason::kConflict,
                    absl::StrCat("another operation on ", name, " is running (",
                                 running != running_.end() ? running->second.operation : closed_by_,
                                 ")")),
              "try again when it has ended");
        }
      }
    }
  }

 private:
  struct Running {
    std::string operation;
    Cancellation* cancel = nullptr;  // null: not to be interrupted
    bool missed = false;             // kBackground wanted the project
  };

  static std::string EndedBy(const std::string& operation) {
    return absl::StrCat("it was ended by `vibe ", operation, "`");
  }

  void CancelRunning(const std::string& operation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (auto& [name, running] : running_) {
      if (running.cancel != nullptr) {
        running.cancel->Cancel(EndedBy(operation));
      }
    }
  }

  bool AwaitIdle(absl::Duration patience) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto idle = [this] {
      mutex_.AssertReaderHeld();
      return running_.empty();
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&idle), patience);
  }

  // Whether it was wanted by kBackground meanwhile.
  bool Release(const std::string& name) {
    const absl::MutexLock lock(&mutex_);
    const auto node = running_.extract(name);
    return node.mapped().missed;
  }

  const std::function<void(const std::string& name)> missed_;
  absl::Mutex mutex_;
  std::map<std::string, Running> running_ ABSL_GUARDED_BY(mutex_);  // by project name
  std::string closed_by_ ABSL_GUARDED_BY(mutex_);                   // an operation; empty: open
};

}  // namespace vibe::host
