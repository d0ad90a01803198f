#include "supervisor/snapshot_completion.h"

#include <algorithm>
#include <utility>

#include "state/background_thread.h"

namespace vibe::supervisor {

SnapshotCompletion::SnapshotCompletion(Complete complete)
    : complete_(std::move(complete)), thread_([this] { Run(); }) {}

SnapshotCompletion::~SnapshotCompletion() {
  End();
}

void SnapshotCompletion::End() {
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
    waiting_.clear();
    stop_.request_stop();
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

void SnapshotCompletion::Add(const std::string& project_id, const std::string& snapshot_id) {
  absl::MutexLock lock(&mutex_);
  if (!ending_) {
    waiting_.push_back({project_id, snapshot_id});
  }
}

void SnapshotCompletion::Forget(const std::string& project_id) {
  ForgetThose([&](const Job& job) { return job.project_id == project_id; });
}

void SnapshotCompletion::Forget(const std::string& project_id, const std::string& snapshot_id) {
  ForgetThose([&](const Job& job) {
    return job.project_id == project_id && job.snapshot_id == snapshot_id;
  });
}

void SnapshotCompletion::ForgetThose(const std::function<bool(const Job&)>& meant) {
  absl::MutexLock lock(&mutex_);
  waiting_.erase(std::remove_if(waiting_.begin(), waiting_.end(), meant), waiting_.end());
  if (meant(working_on_)) {
    stop_.request_stop();
  }
  const auto idle = [&] {
    mutex_.AssertReaderHeld();
    return !meant(working_on_);
  };
  mutex_.Await(absl::Condition(&idle));
}

void SnapshotCompletion::Run() {
  state::GiveWay();
  const auto something = [this] {
    mutex_.AssertReaderHeld();
    return ending_ || !waiting_.empty();
  };
  while (true) {
    Job job;
    std::stop_token stop;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&something));
      if (ending_) {
        return;
      }
      job = std::move(waiting_.front());
      waiting_.pop_front();
      working_on_ = job;
      stop_ = std::stop_source();
      stop = stop_.get_token();
    }
    complete_(job.project_id, job.snapshot_id, stop);
    absl::MutexLock lock(&mutex_);
    working_on_ = {};
  }
}

}  // namespace vibe::supervisor
