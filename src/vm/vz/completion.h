// One result that comes later, from another thread, or never. Shared by the one that waits and the
// one that finishes; each may go first. Thread-safe.
#pragma once

#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace vibe::vm::vz {

// Result: absl::Status or an absl::StatusOr. A result that comes after the deadline is destroyed
// with the last owner of the Completion, so that nothing it holds leaks.
template <typename Result>
class Completion {
 public:
  // The first call counts.
  void Finish(Result result) {
    absl::MutexLock lock(&mutex_);
    if (!result_.has_value()) {
      result_.emplace(std::move(result));
    }
  }

  // Once. DeadlineExceeded, with `what` and the time it was given, when nothing came.
  Result Await(absl::Duration timeout, absl::string_view what) {
    absl::MutexLock lock(&mutex_);
    const auto finished = [this]()
                              ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return result_.has_value(); };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&finished), timeout)) {
      return absl::DeadlineExceededError(
          absl::StrCat(what, ": no answer within ", absl::FormatDuration(timeout)));
    }
    return *std::move(result_);
  }

 private:
  absl::Mutex mutex_;
  std::optional<Result> result_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace vibe::vm::vz
