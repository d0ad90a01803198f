// The life of the one machine: boots it on the first need, watches its health, brings it back when
// it dies, stops it cleanly within a bound. Everything else reaches the machine through this class.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "vm/virtual_machine.h"

namespace vibe::vm {

enum class MachineState { kStopped, kBooting, kReady, kBusy, kPaused, kShuttingDown, kError };
absl::string_view StateName(MachineState state);  // "stopped", …, "shutting-down", "error"

struct MachineStatus {
  MachineState state = MachineState::kStopped;
  std::string backend;
  // Why it is in kError, or why one that is kPaused is held: it goes on by itself.
  std::string error;
  absl::Time ready_since;
  int recoveries = 0;          // times it was brought back since vibed started
  std::string recovery_cause;  // why it was the last time
  // Of a stopped machine: the next start goes on where it was. Of one that runs: it did.
  bool suspended = false, resumed = false;
  bool can_suspend = false;
  std::string save_error;  // why the last Suspend or start did without a save
};

// Thread-safe. The destructor stops watching; it does not stop the machine.
class Machine {
 public:
  // `probe` asks the supervisor for its health through Dial; it must take a deadline of its own (2
  // s).
  using Probe = std::function<absl::Status()>;
  struct Options {
    absl::Duration boot_timeout = absl::Seconds(60);
    // A resumed machine that does not answer within this is ended and booted.
    absl::Duration resume_timeout = absl::Seconds(30);
    absl::Duration shutdown_timeout = absl::Seconds(60);
    absl::Duration heartbeat = absl::Seconds(2);
    int missed_heartbeats = 5;  // then the machine counts as hung and is restarted
    // A machine that had to be brought back this often within the window stays down (kError) until
    // somebody asks for it again.
    int max_recoveries = 5;
    absl::Duration recovery_window = absl::Minutes(10);
    absl::Duration recovery_backoff =
        absl::Milliseconds(500);  // doubles with each recovery in the window
  };
  Machine(std::unique_ptr<VirtualMachine> backend, Probe probe, Options options);
  ~Machine();

  // Returns when the supervisor answers. Concurrent callers share one boot. DISK_LOW while the
  // host's disk is full and the machine is held for that; both that one and one that died of it go
  // on by themselves when there is room.
  absl::Status EnsureReady();
  // Finds a machine that runs already (left by an earlier vibed) without starting one. When its
  // supervisor does not answer yet, waiting for it and repair go on in the background.
  void Adopt();
  // Does not boot: Unavailable when the machine is stopped.
  absl::StatusOr<UniqueFd> Dial(uint32_t port);
  // `request` asks the supervisor to stop the projects (with a deadline of its own; a failure does
  // not keep the machine up); then the backend is asked; after shutdown_timeout it is forced. Ends
  // a boot or a recovery that is under way. A stopped machine is a success; a suspended one is
  // resumed first, so that what it runs ends cleanly.
  absl::Status Stop(const std::function<absl::Status()>& request);
  // Stops the machine so that the next start goes on where it was, projects and all, where the
  // backend can: `prepare` asks the supervisor to sync the data disk (with a deadline of its own),
  // then the machine is saved. Stops it as Stop(request) does where it cannot be saved, is not
  // ready, or `prepare` or the save fails; status() says which it was, and why. A suspended or
  // stopped machine stays as it is.
  absl::Status Suspend(const std::function<absl::Status()>& prepare,
                       const std::function<absl::Status()>& request);
  // Stops the machine as Stop does (a suspended one is not resumed: its save is part of its data)
  // and calls `erase` with the backend's DataPaths while nobody can start it. Not called when the
  // machine could not be stopped.
  absl::Status Reset(
      const std::function<absl::Status()>& request,
      const std::function<absl::Status(const std::vector<std::filesystem::path>&)>& erase);
  MachineStatus status() const;
  // Of the backend, see virtual_machine.h.
  std::filesystem::path ConsoleLog() const;
  std::vector<std::filesystem::path> DataPaths() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vibe::vm
