// The work on snapshots that nobody waits for: digests, checks, dumps. One at a time, in order, on
// a thread of its own. Thread-safe.
#pragma once

#include <deque>
#include <functional>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace vibe::supervisor {

class SnapshotCompletion {
 public:
  // `complete` does the work for one snapshot of one project and ends soon when asked to stop.
  using Complete = std::function<void(const std::string& project_id, const std::string& snapshot_id,
                                      std::stop_token stop)>;
  explicit SnapshotCompletion(Complete complete);
  ~SnapshotCompletion();  // as End

  void Add(const std::string& project_id, const std::string& snapshot_id);
  // Drops what waits and stops what runs for this project; returns when nothing touches it any
  // more.
  void Forget(const std::string& project_id);
  // The same for one snapshot.
  void Forget(const std::string& project_id, const std::string& snapshot_id);
  // Stops everything; what was not done is done after the next start.
  void End();

 private:
  struct Job {
    std::string project_id, snapshot_id;
  };
  void ForgetThose(const std::function<bool(const Job&)>& meant);
  void Run();

  const Complete complete_;
  absl::Mutex mutex_;
  std::deque<Job> waiting_ ABSL_GUARDED_BY(mutex_);
  Job working_on_ ABSL_GUARDED_BY(mutex_);         // empty ids: nothing
  std::stop_source stop_ ABSL_GUARDED_BY(mutex_);  // of what is worked on
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace vibe::supervisor
