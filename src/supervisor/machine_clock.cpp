#include "supervisor/machine_clock.h"

#include <cerrno>
#include <ctime>

#include "base/status.h"

namespace vibe::supervisor {
namespace {

// The way from the host takes time as well: a smaller difference says nothing.
constexpr absl::Duration kTolerance = absl::Milliseconds(30);
const absl::Time kEarliest =
    absl::FromUnixSeconds(1'577'836'800);  // 2020: an older host has no clock
const absl::Time kLatest = absl::FromUnixSeconds(7'258'118'400);  // 2200

}  // namespace

absl::Time MachineTime() {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return absl::TimeFromTimespec(time);
}

absl::StatusOr<absl::Duration> SetMachineClock(absl::Time host_time) {
  if (host_time < kEarliest || host_time > kLatest) {
    return absl::InvalidArgumentError("the host's time is not between the years 2020 and 2200");
  }
  const absl::Duration offset = host_time - MachineTime();
  if (absl::AbsDuration(offset) <= kTolerance) {
    return offset;
  }
  const timespec time = absl::ToTimespec(host_time);
  if (::clock_settime(CLOCK_REALTIME, &time) != 0) {
    return ErrnoError(errno, "set the machine's clock");
  }
  return offset;
}

}  // namespace vibe::supervisor
