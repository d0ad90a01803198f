// Hands each change of a project to every subscriber. A subscriber that does not keep up loses the
// oldest changes of a project, never the newest: each waiting project is queued once, with its
// latest state. Thread-safe.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::supervisor {

class EventBus {
 public:
  class Subscription {
   public:
    // The next change, or nothing after `timeout`.
    std::optional<v1::Project> Next(absl::Duration timeout) {
      absl::MutexLock lock(&mutex_);
      const auto available = [this] {
        mutex_.AssertReaderHeld();
        return !changed_.empty();
      };
      if (!mutex_.AwaitWithTimeout(absl::Condition(&available), timeout)) {
        return std::nullopt;
      }
      return std::move(changed_.extract(changed_.begin()).mapped());
    }

   private:
    friend class EventBus;
    void Put(const v1::Project& project) {
      absl::MutexLock lock(&mutex_);
      changed_[project.id()] = project;
    }
    absl::Mutex mutex_;
    std::map<std::string, v1::Project> changed_ ABSL_GUARDED_BY(mutex_);
  };

  // Receives changes for as long as the caller keeps it.
  std::shared_ptr<Subscription> Subscribe() {
    auto subscription = std::make_shared<Subscription>();
    absl::MutexLock lock(&mutex_);
    subscriptions_.insert(subscription);
    return subscription;
  }

  void Publish(const v1::Project& project) {
    absl::MutexLock lock(&mutex_);
    for (auto entry = subscriptions_.begin(); entry != subscriptions_.end();) {
      if (const auto subscription = entry->lock()) {
        subscription->Put(project);
        ++entry;
      } else {
        entry = subscriptions_.erase(entry);
      }
    }
  }

 private:
  absl::Mutex mutex_;
  std::set<std::weak_ptr<Subscription>, std::owner_less<std::weak_ptr<Subscription>>> subscriptions_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace vibe::supervisor
