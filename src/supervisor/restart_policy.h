// When a service that ended runs again. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "manifest/manifest.h"

namespace vibe::supervisor {

// The pause before the next run, or nothing when there is to be none. The pause doubles with each
// restart, from 100 ms to 30 s, and starts over once the service has run for ten seconds.
inline std::optional<absl::Duration> RestartDelay(manifest::Restart policy, uint32_t exit_code,
                                                  uint32_t restarts, absl::Duration ran_for) {
  const bool restart = policy == manifest::Restart::kAlways ||
                       (policy == manifest::Restart::kOnFailure && exit_code != 0);
  if (!restart) {
    return std::nullopt;
  }
  if (ran_for >= absl::Seconds(10)) {
    return absl::Milliseconds(100);
  }
  return std::min(absl::Milliseconds(100) * (int64_t{1} << std::min<uint32_t>(restarts, 10)),
                  absl::Duration(absl::Seconds(30)));
}

}  // namespace vibe::supervisor
