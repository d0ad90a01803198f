// The machine's clock, which stands still while the machine is paused. Thread-safe.
#pragma once

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace vibe::supervisor {

// What to stamp with: absl::Now looks at the clock every two seconds and counts cycles in between,
// so for as long after a jump it is as wrong as the jump was wide.
absl::Time MachineTime();

// Sets the clock to `host_time` when it is off by more than 30 ms; returns host minus
// machine, as it was before. PermissionDenied where the clock is not the machine's own (the native
// machine shares its host's, which is not off).
absl::StatusOr<absl::Duration> SetMachineClock(absl::Time host_time);

}  // namespace vibe::supervisor
