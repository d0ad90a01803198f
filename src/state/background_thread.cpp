#include "state/background_thread.h"

#include <linux/ioprio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "absl/base/attributes.h"
#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace vibe::state {
namespace {

constexpr int kNice = 10;
constexpr int kDiskLevel = 7;  // the last of the ordinary ones
constexpr absl::Duration kLongestQuiet = absl::Seconds(10);

ABSL_CONST_INIT absl::Mutex mutex(absl::kConstInit);
std::atomic<int> quiet = 0;  // how many there are; changed with the mutex
absl::Time quiet_until ABSL_GUARDED_BY(mutex) = absl::InfinitePast();

}  // namespace

void GiveWay() {
  // Both mean the calling thread when they are told 0, and are a matter of speed alone.
  ::setpriority(PRIO_PROCESS, 0, kNice);
  ::syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, kDiskLevel));
}

QuietDisk::QuietDisk() {
  absl::MutexLock lock(&mutex);
  ++quiet;
  quiet_until = absl::Now() + kLongestQuiet;
}

QuietDisk::~QuietDisk() {
  absl::MutexLock lock(&mutex);
  --quiet;
}

void AwaitTurn() {
  if (quiet.load(std::memory_order_relaxed) == 0) {
    return;
  }
  const auto over = [] { return quiet == 0; };
  absl::MutexLock lock(&mutex);
  mutex.AwaitWithDeadline(absl::Condition(&over), quiet_until);
}

}  // namespace vibe::state
