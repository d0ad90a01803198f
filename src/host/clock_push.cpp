#include "host/clock_push.h"

#include <chrono>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "spdlog/spdlog.h"

namespace vibe::host {
namespace {

constexpr absl::Duration kLook = absl::Milliseconds(200);
constexpr absl::Duration kPeriod = absl::Seconds(30);
// Between two looks, by the clock that stands still while this computer sleeps and nobody sets.
constexpr absl::Duration kJump = absl::Milliseconds(50);
constexpr absl::Duration kWorthSaying = absl::Seconds(1);

absl::Duration Steady() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace

ClockPush::ClockPush(const vm::Machine& machine, SupervisorClient& supervisor)
    : machine_(machine), supervisor_(supervisor) {
  if (machine_.status().backend != "native") {
    thread_ = std::thread([this] { Run(); });
  }
}

ClockPush::~ClockPush() {
  stop_.Cancel();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void ClockPush::Run() {
  absl::Time ready_since = absl::InfinitePast();  // of the machine whose clock was set
  absl::Time next = absl::InfinitePast();
  absl::Time wall = absl::Now();
  absl::Duration steady = Steady();
  while (!stop_.cancelled()) {
    const absl::Time now = absl::Now();
    const absl::Duration ticks = Steady();
    const bool jumped = absl::AbsDuration((now - wall) - (ticks - steady)) > kJump;
    // A process that did not run for a while may have slept with all of the computer.
    const bool slept = now - wall > kLook * 10;
    wall = now;
    steady = ticks;
    const vm::MachineStatus machine = machine_.status();
    if (machine.state != vm::MachineState::kReady && machine.state != vm::MachineState::kBusy) {
      ready_since = absl::InfinitePast();
    } else if (jumped || slept || machine.ready_since != ready_since || now >= next) {
      const absl::StatusOr<absl::Duration> offset = supervisor_.SyncClock();
      if (offset.ok()) {
        ready_since = machine.ready_since;
        next = now + kPeriod;
        if (absl::AbsDuration(*offset) > kWorthSaying) {
          spdlog::info("the machine's clock was off by {}", absl::FormatDuration(*offset));
        }
      }
    }
    stop_.SleepFor(kLook);
  }
}

}  // namespace vibe::host
