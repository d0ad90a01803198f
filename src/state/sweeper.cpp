#include "state/sweeper.h"

#include "base/status.h"
#include "state/background_thread.h"
#include "state/files_at.h"
#include "state/project_directory.h"
#include "state/staged_removal.h"

namespace vibe::state {

Sweeper::~Sweeper() {
  std::thread last;
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
    last = std::move(thread_);
  }
  if (last.joinable()) {
    last.join();
  }
}

void Sweeper::Remove(const std::string& staged) {
  absl::MutexLock lock(&mutex_);
  waiting_.push_back(staged);
  if (running_) {
    return;
  }
  if (thread_.joinable()) {
    thread_.join();  // it has said that it is at its end
  }
  running_ = true;
  thread_ = std::thread([this] { Run(); });
}

void Sweeper::Run() {
  GiveWay();
  while (true) {
    std::string staged;
    {
      absl::MutexLock lock(&mutex_);
      if (ending_ || waiting_.empty()) {
        running_ = false;
        return;
      }
      staged = std::move(waiting_.front());
      waiting_.pop_front();
    }
    if (const auto staging = OpenDirectoryAt(project_, kStaging); staging.ok()) {
      RemoveStagedAt(staging->get(), staged).IgnoreError();
    }
  }
}

}  // namespace vibe::state
