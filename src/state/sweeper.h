// Removes what operations leave in staging/, on a thread of its own: the kernel takes microseconds
// for each file of a subvolume that it has in memory, which nobody has to wait for. Inside this
// room only. Thread-safe.
#pragma once

#include <deque>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace vibe::state {

class Sweeper {
 public:
  explicit Sweeper(int project) : project_(project) {}  // its directory; stays the caller's
  // Waits for what is being removed; what was not begun, and what fails, is left to Recover.
  ~Sweeper();
  Sweeper(const Sweeper&) = delete;
  Sweeper& operator=(const Sweeper&) = delete;

  void Remove(const std::string& staged);

 private:
  void Run();

  const int project_;
  absl::Mutex mutex_;
  std::deque<std::string> waiting_ ABSL_GUARDED_BY(mutex_);
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);  // there is one while there is something to do
};

}  // namespace vibe::state
