#include "state/background_thread.h"

#include <linux/ioprio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vibe::state {
namespace {

constexpr int kNice = 10;
constexpr int kDiskLevel = 7;  // the last of the ordinary ones

}  // namespace

void GiveWay() {
  // Both mean the calling thread when they are told 0, and are a matter of speed alone.
  ::setpriority(PRIO_PROCESS, 0, kNice);
  ::syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, kDiskLevel));
}

}  // namespace vibe::state
