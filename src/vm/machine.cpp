#include "vm/machine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "vm/guest_fault.h"
#include "vm/machine_impl.h"

namespace vibe::vm {
namespace {

constexpr absl::Duration kFirstProbePause = absl::Milliseconds(5);
constexpr absl::Duration kLongestProbePause = absl::Milliseconds(20);
constexpr absl::Duration kPowerPollPause = absl::Milliseconds(20);

}  // namespace

absl::string_view StateName(MachineState state) {
  switch (state) {
    case MachineState::kStopped:
      return "stopped";
    case MachineState::kBooting:
      return "booting";
    case MachineState::kReady:
      return "ready";
    case MachineState::kBusy:
      return "busy";
    case MachineState::kPaused:
      return "paused";
    case MachineState::kShuttingDown:
      return "shutting-down";
    case MachineState::kError:
      return "error";
  }
  return "error";
}

void Machine::Impl::SetState(MachineState next) {
  state = next;
  hindrance.clear();
  if (next != MachineState::kError) {
    error.clear();
  }
  changed.SignalAll();
}

absl::Status Machine::Impl::FinishBoot(const absl::Status& status) {
  ++boots;
  last_boot = status;
  if (status.ok()) {
    ready_since = absl::Now();
    awaits_room = false;
    SetState(MachineState::kReady);
  } else if (absl::IsCancelled(status)) {
    SetState(MachineState::kStopped);
  } else {
    SetState(MachineState::kError);
    error = std::string(status.message());
  }
  return status;
}

bool Machine::Impl::Pause(absl::Duration duration) {
  const absl::Time end = absl::Now() + duration;
  absl::MutexLock lock(&mutex);
  while (!Cancelled() && absl::Now() < end) {
    changed.WaitWithDeadline(&mutex, end);
  }
  return !Cancelled();
}

absl::Status Machine::Impl::AwaitAnswer(absl::Duration limit) {
  absl::Time deadline = absl::Now() + limit;
  absl::Time next_look = absl::Now() + options.heartbeat;
  for (absl::Duration pause = kFirstProbePause;; pause = std::min(pause * 2, kLongestProbePause)) {
    const absl::Status health = probe();
    if (health.ok()) {
      return health;
    }
    if (backend->state() == PowerState::kOff) {
      return absl::UnavailableError("the machine went off while it booted");
    }
    if (absl::Now() >= next_look) {
      const std::string held = backend->Hindrance();
      absl::MutexLock lock(&mutex);
      if (!held.empty() || !hindrance.empty()) {
        deadline = absl::Now() + limit;  // its time stands still, or stood until now
      }
      hindrance = held;
      next_look = absl::Now() + options.heartbeat;
    }
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat("the machine did not answer within ",
                                                      absl::FormatDuration(limit), ": ",
                                                      health.message()));
    }
    if (!Pause(pause)) {
      return absl::CancelledError("the machine was stopped while it booted");
    }
  }
}

absl::Status Machine::Impl::Boot() {
  const bool paused = backend->state() == PowerState::kPaused;
  absl::Status status = paused ? Annotate(backend->Resume(), "resume the machine")
                               : Annotate(backend->Start(), "start the machine");
  bool from_save = status.ok() && !paused && backend->resumed();
  if (status.ok()) {
    status = AwaitAnswer(from_save ? options.resume_timeout : options.boot_timeout);
  }
  std::string unused_save;
  if (!status.ok() && !absl::IsCancelled(status) && from_save) {
    // What was synced is on the disk, and the save is used up.
    unused_save = absl::StrCat("the saved machine was thrown away: ", status.message());
    from_save = false;
    status = backend->Kill();
    if (status.ok()) {
      status = Annotate(backend->Start(), "start the machine");
    }
    if (status.ok()) {
      status = AwaitAnswer(options.boot_timeout);
    }
  }
  {
    absl::MutexLock lock(&mutex);
    resumed = from_save && status.ok();
    save_error = unused_save;
  }
  if (status.ok() || absl::IsCancelled(status)) {
    return status;
  }
  const std::vector<std::string> log = backend->LastLog();
  const GuestFault fault = FindGuestFault(log);
  if (!fault.message.empty()) {
    status = Annotate(status, fault.message);
  }
  status = WithLog(WithAdvice(status, fault.advice), log);
  // The next boot begins with nothing left of this one.
  const absl::Status killed = backend->Kill();
  return killed.ok() ? status : Annotate(status, absl::StrCat("(", killed.message(), " too)"));
}

absl::Status Machine::Impl::PowerOff(const std::function<absl::Status()>& request) {
  if (backend->state() == PowerState::kOn && !backend->Hindrance().empty()) {
    return backend->Kill();  // held: it would hear nothing
  }
  if (backend->state() == PowerState::kPaused) {
    if (absl::Status status = backend->Resume(); !status.ok()) {
      return backend->Kill();  // frozen for good: there is nobody to ask
    }
  }
  if (request && backend->state() == PowerState::kOn) {
    request().IgnoreError();  // what it could not stop is stopped with the machine
  }
  const absl::Time deadline = absl::Now() + options.shutdown_timeout;
  if (backend->RequestShutdown().ok()) {
    while (backend->state() != PowerState::kOff && absl::Now() < deadline) {
      absl::SleepFor(kPowerPollPause);
    }
  }
  return backend->Kill();  // also clears away what a machine that went off by itself may leave
}

absl::Status Machine::Impl::Save(const std::function<absl::Status()>& prepare) {
  if (!backend->can_suspend()) {
    return absl::UnimplementedError("this machine cannot be saved");
  }
  if (prepare) {
    VIBE_RETURN_IF_ERROR(prepare());
  }
  return backend->Suspend();
}

bool Machine::Impl::TakeForStop() {
  ++stops;
  changed.SignalAll();
  while (state == MachineState::kBooting || state == MachineState::kShuttingDown) {
    changed.Wait(&mutex);
  }
  --stops;
  awaits_room = false;
  const bool up = Up() && hindrance.empty();
  SetState(MachineState::kShuttingDown);
  return up;
}

absl::Status Machine::Impl::FinishStop(absl::Status status) {
  resumed = false;
  SetState(status.ok() ? MachineState::kStopped : MachineState::kError);
  if (!status.ok()) {
    status = Annotate(status, "stop the machine");
    error = std::string(status.message());
  }
  return status;
}

Machine::Machine(std::unique_ptr<VirtualMachine> backend, Probe probe, Options options)
    : impl_(std::make_unique<Impl>(std::move(backend), std::move(probe), options)) {
  impl_->watcher = std::thread([this] { impl_->Watch(); });
}

Machine::~Machine() {
  {
    absl::MutexLock lock(&impl_->mutex);
    impl_->quit = true;
    impl_->changed.SignalAll();
  }
  impl_->watcher.join();
}

absl::Status Machine::EnsureReady() {
  Impl& m = *impl_;
  absl::MutexLock lock(&m.mutex);
  while (true) {
    if (m.Up()) {
      return m.hindrance.empty() ? absl::OkStatus() : Full(m.hindrance);
    }
    if (m.state == MachineState::kShuttingDown) {
      m.changed.Wait(&m.mutex);
    } else if (m.state == MachineState::kBooting) {
      const uint64_t before = m.boots;
      while (m.boots == before && m.state == MachineState::kBooting) {
        m.changed.Wait(&m.mutex);
      }
      if (m.boots != before) {
        return m.last_boot;
      }
    } else {
      m.SetState(MachineState::kBooting);
      m.mutex.Unlock();
      const absl::Status status = m.Boot();
      m.mutex.Lock();
      return m.FinishBoot(status);
    }
  }
}

void Machine::Adopt() {
  Impl& m = *impl_;
  {
    absl::MutexLock lock(&m.mutex);
    if (m.state != MachineState::kStopped) {
      return;
    }
    m.SetState(MachineState::kBooting);
  }
  const PowerState power = m.backend->state();
  const bool healthy = power == PowerState::kOn && m.probe().ok();
  absl::MutexLock lock(&m.mutex);
  if (healthy) {
    m.FinishBoot(absl::OkStatus()).IgnoreError();
  } else if (power == PowerState::kOn) {
    m.adopting = true;  // the watcher goes on with it
    m.changed.SignalAll();
  } else {
    m.SetState(power == PowerState::kPaused ? MachineState::kPaused : MachineState::kStopped);
  }
}

absl::StatusOr<UniqueFd> Machine::Dial(uint32_t port) {
  {
    absl::MutexLock lock(&impl_->mutex);
    if (impl_->state == MachineState::kStopped) {
      return WithAdvice(absl::UnavailableError("the machine is not running"),
                        "start it with `vibe machine start`");
    }
  }
  return impl_->backend->Dial(port);
}

absl::Status Machine::Stop(const std::function<absl::Status()>& request) {
  Impl& m = *impl_;
  absl::MutexLock lock(&m.mutex);
  bool up = m.TakeForStop();
  m.mutex.Unlock();
  if (!up && m.backend->suspended()) {
    up = m.Boot().ok();
  }
  // A machine that is not in use may still run: one that nobody adopted, or whose boot was cut
  // short.
  const absl::Status status = m.backend->state() == PowerState::kOff && !up
                                  ? absl::OkStatus()
                                  : m.PowerOff(up ? request : nullptr);
  m.mutex.Lock();
  return m.FinishStop(status);
}

absl::Status Machine::Suspend(const std::function<absl::Status()>& prepare,
                              const std::function<absl::Status()>& request) {
  Impl& m = *impl_;
  absl::MutexLock lock(&m.mutex);
  const bool up = m.TakeForStop();
  m.mutex.Unlock();
  absl::Status status, saved;
  if (up) {
    saved = m.Save(prepare);
    status = saved.ok() ? saved : m.PowerOff(request);
  } else if (m.backend->state() != PowerState::kOff) {
    saved = absl::FailedPreconditionError("the machine was not ready");
    status = m.PowerOff(nullptr);
  }
  m.mutex.Lock();
  m.save_error = std::string(saved.message());
  return m.FinishStop(status);
}

absl::Status Machine::Reset(
    const std::function<absl::Status()>& request,
    const std::function<absl::Status(const std::vector<std::filesystem::path>&)>& erase) {
  Impl& m = *impl_;
  absl::MutexLock lock(&m.mutex);
  const bool up = m.TakeForStop();
  m.mutex.Unlock();
  // A save is erased too: it belongs to the data.
  const bool nothing_left =
      m.backend->state() == PowerState::kOff && !up && !m.backend->suspended();
  const absl::Status stopped = nothing_left ? absl::OkStatus() : m.PowerOff(up ? request : nullptr);
  const absl::Status erased = stopped.ok() ? erase(m.backend->DataPaths()) : absl::OkStatus();
  m.mutex.Lock();
  VIBE_RETURN_IF_ERROR(m.FinishStop(stopped));
  return erased;  // the machine is stopped, and its data is what `erase` left
}

std::filesystem::path Machine::ConsoleLog() const {
  return impl_->backend->ConsoleLog();
}

std::vector<std::filesystem::path> Machine::DataPaths() const {
  return impl_->backend->DataPaths();
}

MachineStatus Machine::status() const {
  absl::MutexLock lock(&impl_->mutex);
  const bool held = !impl_->hindrance.empty();
  return {.state = held ? MachineState::kPaused : impl_->state,
          .backend = impl_->backend->name(),
          .error = held ? std::string(Full(impl_->hindrance).message()) : impl_->error,
          .ready_since = impl_->Up() ? impl_->ready_since : absl::InfinitePast(),
          .recoveries = impl_->recoveries,
          .recovery_cause = impl_->recovery_cause,
          .suspended = impl_->state == MachineState::kStopped && impl_->backend->suspended(),
          .resumed = impl_->resumed,
          .can_suspend = impl_->backend->can_suspend(),
          .save_error = impl_->save_error};
}

}  // namespace vibe::vm
