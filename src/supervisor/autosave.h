// When a project's data is saved without being asked: some time after the last change that nothing
// followed, and only when there was one. Pure; one thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace vibe::supervisor {

class AutosaveClock {
 public:
  // Told again and again whether there are changes that no snapshot has, and the file system's
  // number of the last one. True when it is time to save: nothing changed for `debounce`, or for
  // kLongest there was no quiet time.
  bool Tick(absl::Time now, bool changed, uint64_t change, absl::Duration debounce) {
    if (!changed) {
      since_ = absl::InfiniteFuture();
      return false;
    }
    if (since_ == absl::InfiniteFuture()) {
      since_ = now;
      quiet_since_ = now;
      last_change_ = change;
    } else if (change != last_change_) {
      quiet_since_ = now;
      last_change_ = change;
    }
    return now - quiet_since_ >= debounce || now - since_ >= Longest(debounce);
  }
  // After a try that failed: the next one is a debounce later.
  void Saved(absl::Time now) {
    since_ = absl::InfiniteFuture();
    quiet_since_ = now;
  }

 private:
  // An app that never rests is saved too, seldom enough to be no burden.
  static absl::Duration Longest(absl::Duration debounce) {
    return std::max(10 * debounce, absl::Minutes(10));
  }

  absl::Time since_ = absl::InfiniteFuture();
  absl::Time quiet_since_ = absl::InfinitePast();
  uint64_t last_change_ = 0;
};

}  // namespace vibe::supervisor
