// The room on the data disk: watched, so that users hear of it before anything is refused.
#include "spdlog/spdlog.h"
#include "supervisor/disk_space.h"
#include "supervisor/supervisor.h"

namespace vibe::supervisor {
namespace {

constexpr absl::Duration kLook = absl::Seconds(2);

}  // namespace

absl::Status Supervisor::CheckSpace() const {
  return supervisor::CheckSpace(options_.data, options_.disk_host);
}

// By a thread of its own: a disk that does not answer must not keep Health from it.
void Supervisor::WatchSpace() {
  const auto closing = [this] {
    mutex_.AssertReaderHeld();
    return closing_;
  };
  SpaceLevel told = SpaceLevel::kPlenty;
  while (true) {
    const auto report = MeasureSpace(options_.data, options_.disk_host);
    absl::MutexLock lock(&mutex_);
    if (report.ok()) {
      disk_warning_ = report->warning;
      if (report->level != told && report->level != SpaceLevel::kPlenty) {
        spdlog::warn("{}", report->warning);
      }
      told = report->level;
    }
    if (mutex_.AwaitWithTimeout(absl::Condition(&closing), kLook)) {
      return;
    }
  }
}

}  // namespace vibe::supervisor
