// The machine's clock, which stands still while the machine is paused. Thread-safe.
#pragma once

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace vibe::supervisor {

// Sets the clock to `host_time` when it is off by more than 30 ms; returns host minus
// machine, as it was before. PermissionDenied where the clock is not the machine's own (the native
// machine shares its host's, which is not off).
absl::StatusOr<absl::Duration> SetMachineClock(absl::Time host_time);

}  // namespace vibe::supervisor
