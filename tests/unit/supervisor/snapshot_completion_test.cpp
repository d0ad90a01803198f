#include "supervisor/snapshot_completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

namespace vibe::supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Work that ends when it is asked to, as a dump does, or at once.
class SnapshotCompletionTest : public ::testing::Test {
 protected:
  void Complete(const std::string& project, const std::string& snapshot, std::stop_token stop) {
    const std::string job = absl::StrCat(project, "/", snapshot);
    absl::MutexLock lock(&mutex_);
    begun_.push_back(job);
    while (snapshot == "long" && !stop.stop_requested()) {
      mutex_.Unlock();
      absl::SleepFor(absl::Milliseconds(1));
      mutex_.Lock();
    }
    (stop.stop_requested() ? stopped_ : done_).push_back(job);
  }

  std::vector<std::string> Await(const std::vector<std::string>& list, size_t count) {
    const auto enough = [&] { return list.size() >= count; };
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(10));
    return list;
  }

  absl::Mutex mutex_;
  std::vector<std::string> begun_, done_, stopped_;
  SnapshotCompletion completion_{
      [this](const std::string& project, const std::string& snapshot, std::stop_token stop) {
        Complete(project, snapshot, stop);
      }};
};

TEST_F(SnapshotCompletionTest, ASnapshotThatIsForgottenIsBrokenOffAndTheNextComesAtOnce) {
  completion_.Add("p", "long");
  completion_.Add("p", "b");
  EXPECT_THAT(Await(begun_, 1), ElementsAre("p/long"));
  completion_.Forget("p", "long");
  EXPECT_THAT(Await(stopped_, 1), ElementsAre("p/long")) << "something may still use it";
  EXPECT_THAT(Await(done_, 1), ElementsAre("p/b"));
}

TEST_F(SnapshotCompletionTest, OnlyTheSnapshotThatIsMeantIsForgotten) {
  completion_.Add("p", "long");
  completion_.Add("p", "b");
  completion_.Add("q", "b");
  EXPECT_THAT(Await(begun_, 1), ElementsAre("p/long"));
  completion_.Forget("p", "b");
  completion_.Forget("q", "long");
  EXPECT_THAT(Await(stopped_, 0), IsEmpty()) << "another one was broken off";
  completion_.Forget("p");
  EXPECT_THAT(Await(done_, 1), ElementsAre("q/b"));
}

}  // namespace
}  // namespace vibe::supervisor
