#include "supervisor/dependency_graph.h"

#include <algorithm>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace vibe::supervisor {
namespace {

class Progress {
 public:
  explicit Progress(size_t nodes) : done_(nodes, false) {}

  absl::Status WaitFor(const std::vector<int>& nodes) {
    absl::MutexLock lock(&mutex_);
    const auto all_done = [&] {
      mutex_.AssertHeld();
      return std::all_of(nodes.begin(), nodes.end(), [&](int node) { return done_[node]; });
    };
    mutex_.Await(absl::Condition(&all_done));
    return first_error_;
  }

  absl::Status so_far() {
    absl::MutexLock lock(&mutex_);
    return first_error_;
  }

  void Finish(int node, absl::Status status) {
    absl::MutexLock lock(&mutex_);
    done_[node] = true;
    first_error_.Update(std::move(status));
  }

 private:
  absl::Mutex mutex_;
  std::vector<bool> done_ ABSL_GUARDED_BY(mutex_);
  absl::Status first_error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::Status RunGraph(const std::vector<std::vector<int>>& waits_for,
                      const std::function<absl::Status(int, const AwaitDependencies&)>& run) {
  Progress progress(waits_for.size());
  std::vector<std::thread> threads;
  threads.reserve(waits_for.size());
  for (int node = 0; node < static_cast<int>(waits_for.size()); ++node) {
    threads.emplace_back([&, node] {
      progress.Finish(node, run(node, [&] { return progress.WaitFor(waits_for[node]); }));
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return progress.so_far();
}

std::vector<std::vector<int>> Reversed(const std::vector<std::vector<int>>& edges) {
  std::vector<std::vector<int>> reversed(edges.size());
  for (int node = 0; node < static_cast<int>(edges.size()); ++node) {
    for (const int target : edges[node]) {
      reversed[target].push_back(node);
    }
  }
  return reversed;
}

}  // namespace vibe::supervisor
