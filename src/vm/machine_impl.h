// The state of Machine, shared by the files that make it: machine.cpp, what callers ask for, and
// machine_watch.cpp, what the machine needs by itself.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "vm/machine.h"

namespace vibe::vm {

// DISK_LOW: `hindrance` is a backend's.
absl::Status Full(const std::string& hindrance);

// Whoever sets kBooting or kShuttingDown owns the backend until it sets another state; the backend
// and the probe are called without the mutex.
struct Machine::Impl {
  Impl(std::unique_ptr<VirtualMachine> vm, Probe health, Options limits)
      : backend(std::move(vm)), probe(std::move(health)), options(limits) {}

  bool Up() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return state == MachineState::kReady || state == MachineState::kBusy;
  }
  bool Cancelled() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) { return quit || stops > 0; }

  void SetState(MachineState next) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::Status FinishBoot(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // False when a stop was asked for meanwhile.
  bool Pause(absl::Duration duration) ABSL_LOCKS_EXCLUDED(mutex);
  absl::Status Boot() ABSL_LOCKS_EXCLUDED(mutex);
  absl::Status AwaitAnswer(absl::Duration limit) ABSL_LOCKS_EXCLUDED(mutex);
  absl::Status Recover(const absl::Status& cause) ABSL_LOCKS_EXCLUDED(mutex);
  absl::Status PowerOff(const std::function<absl::Status()>& request) ABSL_LOCKS_EXCLUDED(mutex);
  absl::Status Save(const std::function<absl::Status()>& prepare) ABSL_LOCKS_EXCLUDED(mutex);
  // Ends what others do with the machine; true when it was up.
  bool TakeForStop() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::Status FinishStop(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::Status AwaitRoom(const absl::Status& cause, const std::string& full)
      ABSL_LOCKS_EXCLUDED(mutex);
  // Whether the watcher has to bring a machine back that is down.
  bool RoomCame() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::StatusOr<absl::Duration> NextRecovery(const absl::Status& cause) ABSL_LOCKS_EXCLUDED(mutex);
  // Recovers without the mutex held meanwhile.
  void BringBack(const absl::Status& cause) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void Watch() ABSL_LOCKS_EXCLUDED(mutex);
  absl::Status Heartbeat(uint64_t watched, int& missed) ABSL_LOCKS_EXCLUDED(mutex);

  const std::unique_ptr<VirtualMachine> backend;
  const Probe probe;
  const Options options;

  mutable absl::Mutex mutex;
  absl::CondVar changed;
  MachineState state ABSL_GUARDED_BY(mutex) = MachineState::kStopped;
  std::string error ABSL_GUARDED_BY(mutex);
  absl::Time ready_since ABSL_GUARDED_BY(mutex);
  int recoveries ABSL_GUARDED_BY(mutex) = 0;
  std::string recovery_cause ABSL_GUARDED_BY(mutex);
  bool resumed ABSL_GUARDED_BY(mutex) = false;
  std::string save_error ABSL_GUARDED_BY(mutex);
  std::deque<absl::Time> recent ABSL_GUARDED_BY(mutex);  // recoveries within the window
  uint64_t boots ABSL_GUARDED_BY(mutex) = 0;             // that ended, well or not
  absl::Status last_boot ABSL_GUARDED_BY(mutex);
  // Of a machine that is up or boots and is held by its backend; see VirtualMachine::Hindrance.
  std::string hindrance ABSL_GUARDED_BY(mutex);
  // It died and is brought back when nothing hinders that any more.
  bool awaits_room ABSL_GUARDED_BY(mutex) = false;
  int stops ABSL_GUARDED_BY(mutex) = 0;  // Stop calls that wait for a boot to end
  bool adopting ABSL_GUARDED_BY(mutex) = false;
  bool quit ABSL_GUARDED_BY(mutex) = false;
  std::thread watcher;
};

}  // namespace vibe::vm
