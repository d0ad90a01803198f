// Owns threads that come and go: each is joined soon after it has ended, and all of them when the
// set is destroyed. Thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace vibe::supervisor {

class ThreadSet {
 public:
  explicit ThreadSet(size_t limit) : limit_(limit) {}
  ~ThreadSet() {
    std::list<Member> rest;
    {
      absl::MutexLock lock(&mutex_);
      rest.swap(members_);
    }
    for (Member& member : rest) {
      member.thread.join();
    }
  }

  // False when there are `limit` threads already.
  bool TryRun(std::function<void()> body) {
    absl::MutexLock lock(&mutex_);
    members_.remove_if([](Member& member) {
      if (!*member.done) {
        return false;
      }
      member.thread.join();
      return true;
    });
    if (members_.size() >= limit_) {
      return false;
    }
    auto done = std::make_shared<std::atomic<bool>>(false);
    members_.push_back({std::thread([body = std::move(body), done] {
                          body();
                          *done = true;
                        }),
                        done});
    return true;
  }

 private:
  struct Member {
    std::thread thread;
    std::shared_ptr<std::atomic<bool>> done;
  };
  const size_t limit_;
  absl::Mutex mutex_;
  std::list<Member> members_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace vibe::supervisor
