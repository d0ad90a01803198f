// How long to wait before a service that ended is started again: at once the first times, then ever
// longer while it keeps ending soon. Pure; one thread.
#pragma once

#include <array>
#include <cstddef>

#include "absl/time/time.h"

namespace vibe::init {

class Backoff {
 public:
  absl::Duration Next(absl::Duration ran_for) {
    if (ran_for >= kWell) {
      failures_ = 0;
    }
    const absl::Duration wait = kWaits[failures_];
    if (failures_ + 1 < kWaits.size()) {
      ++failures_;
    }
    return wait;
  }

 private:
  static constexpr absl::Duration kWell = absl::Seconds(10);
  static constexpr std::array<absl::Duration, 8> kWaits = {
      absl::ZeroDuration(),    absl::Milliseconds(20),  absl::Milliseconds(50),
      absl::Milliseconds(100), absl::Milliseconds(500), absl::Seconds(1),
      absl::Seconds(2),        absl::Seconds(5)};

  size_t failures_ = 0;
};

}  // namespace vibe::init
