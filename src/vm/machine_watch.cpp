// The part of Machine that goes on by itself: heartbeats, and bringing back what died.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "vm/machine_impl.h"

namespace vibe::vm {

absl::Status Full(const std::string& hindrance) {
  return WithAdvice(Error(absl::StatusCode::kResourceExhausted, Reason::kDiskLow,
                          absl::StrCat(hindrance, "; it goes on by itself when there is room")),
                    "free space on this computer");
}

// How long to wait before the machine is brought back once more, or why it is not.
absl::StatusOr<absl::Duration> Machine::Impl::NextRecovery(const absl::Status& cause) {
  absl::MutexLock lock(&mutex);
  const absl::Time now = absl::Now();
  while (!recent.empty() && now - recent.front() > options.recovery_window) {
    recent.pop_front();
  }
  if (recent.size() >= static_cast<size_t>(options.max_recoveries)) {
    return WithAdvice(
        Annotate(cause,
                 absl::StrCat("the machine was brought back ", recent.size(), " times within ",
                              absl::FormatDuration(options.recovery_window), " and fails again")),
        "read the machine's console log, then run `vibe machine start`");
  }
  const absl::Duration wait =
      recent.empty()
          ? absl::ZeroDuration()
          : options.recovery_backoff * (int64_t{1} << std::min<size_t>(recent.size() - 1, 16));
  recent.push_back(now);
  ++recoveries;
  recovery_cause = std::string(cause.message());
  return wait;
}

absl::Status Machine::Impl::AwaitRoom(const absl::Status& cause, const std::string& full) {
  if (absl::Status killed = backend->Kill(); !killed.ok()) {
    return Annotate(cause, absl::StrCat("(", killed.message(), " too)"));
  }
  absl::MutexLock lock(&mutex);
  awaits_room = true;
  return Annotate(Full(full), cause.message());
}

bool Machine::Impl::RoomCame() {
  if (state != MachineState::kError || !awaits_room) {
    return false;
  }
  mutex.Unlock();
  const bool room = backend->Hindrance().empty();
  mutex.Lock();
  return room && state == MachineState::kError && awaits_room && !quit;
}

absl::Status Machine::Impl::Recover(const absl::Status& cause) {
  absl::Status status = cause;
  while (true) {
    if (backend->state() == PowerState::kOff) {
      if (const std::string full = backend->Hindrance(); !full.empty()) {
        return AwaitRoom(status, full);
      }
    }
    const absl::StatusOr<absl::Duration> wait = NextRecovery(status);
    if (!wait.ok()) {
      if (absl::Status killed = backend->Kill(); !killed.ok()) {
        return Annotate(wait.status(), absl::StrCat("(", killed.message(), " too)"));
      }
      return wait.status();
    }
    if (!Pause(*wait)) {
      return absl::CancelledError("the machine was stopped while it was brought back");
    }
    status = backend->Kill();
    if (status.ok()) {
      status = Boot();
    }
    if (status.ok() || absl::IsCancelled(status)) {
      return status;
    }
  }
}

void Machine::Impl::BringBack(const absl::Status& cause) {
  SetState(MachineState::kBooting);
  mutex.Unlock();
  const absl::Status status = Recover(cause);
  mutex.Lock();
  FinishBoot(status).IgnoreError();
}

// Says with an error that the machine has to be brought back. Of another boot than the `watched`
// one nothing is concluded: the machine may be stopped and started meanwhile.
absl::Status Machine::Impl::Heartbeat(uint64_t watched, int& missed) {
  absl::Status health = probe();
  const PowerState power = backend->state();
  const std::string held = health.ok() || power != PowerState::kOn ? "" : backend->Hindrance();
  {
    absl::MutexLock lock(&mutex);
    if (Up() && boots == watched) {
      hindrance = held;
    }
  }
  if (health.ok() || !held.empty()) {
    missed = 0;
    return absl::OkStatus();
  }
  if (power == PowerState::kOff) {
    return WithLog(absl::UnavailableError("the machine died"), backend->LastLog());
  }
  if (power == PowerState::kPaused) {
    absl::MutexLock lock(&mutex);
    if (Up() && boots == watched) {
      SetState(MachineState::kPaused);
    }
    return absl::OkStatus();
  }
  if (++missed < options.missed_heartbeats) {
    return absl::OkStatus();
  }
  return WithLog(absl::UnavailableError(absl::StrCat("the machine missed ", missed,
                                                     " heartbeats: ", health.message())),
                 backend->LastLog());
}

void Machine::Impl::Watch() {
  int missed = 0;
  absl::MutexLock lock(&mutex);
  while (!quit) {
    const absl::Time next = absl::Now() + options.heartbeat;
    while (!quit && !adopting && absl::Now() < next) {
      changed.WaitWithDeadline(&mutex, next);
    }
    if (adopting) {
      adopting = false;
      mutex.Unlock();
      absl::Status status = Boot();
      if (!status.ok() && !absl::IsCancelled(status)) {
        status = Recover(status);
      }
      mutex.Lock();
      FinishBoot(status).IgnoreError();
      continue;
    }
    if (!quit && RoomCame()) {
      BringBack(absl::UnavailableError("the machine died"));
      continue;
    }
    if (quit || !Up()) {
      missed = 0;
      continue;
    }
    const uint64_t watched = boots;
    mutex.Unlock();
    const absl::Status fault = Heartbeat(watched, missed);
    mutex.Lock();
    if (fault.ok() || quit || !Up() || boots != watched) {
      continue;  // well, or somebody stopped or booted it meanwhile
    }
    missed = 0;
    BringBack(fault);
  }
}

}  // namespace vibe::vm
