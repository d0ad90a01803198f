// One project while it runs: starts its services in dependency order, watches them, restarts what
// dies, stops them in reverse order. Knows what should be true (the plan) and what is (containerd).
//
// Thread-safe. Start, Stop, Adopt and restarts exclude each other; the status can be read at any
// time.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "containerd/client.h"
#include "supervisor/hooks.h"
#include "supervisor/plan.h"
#include "supervisor/service_container.h"
#include "supervisor/thread_set.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::supervisor {

struct ServiceState {
  v1::Status status = v1::STATUS_STOPPED;
  absl::Time started_at = absl::InfinitePast();
  uint32_t restart_count = 0;
  std::optional<uint32_t> exit_code;
  std::string message;   // why it failed
  bool created = false;  // there is a container
  bool ready = false;    // it was ready since it was started last
};

// Whether there may be a process of the service that works: one that is to stop does not count.
inline bool MayRun(const ServiceState& state) {
  return state.status == v1::STATUS_RUNNING || state.status == v1::STATUS_STARTING;
}

using ProgressSink = std::function<void(const v1::Progress&)>;

class ProjectRuntime {
 public:
  struct Files {
    std::filesystem::path run_directory;   // hosts and resolv.conf; made at start, removed at stop
    std::filesystem::path log_directory;   // <service>.log
    std::filesystem::path state_file;      // current/runtime/service-state.json
    std::filesystem::path restored_mark;   // current/runtime/restored, see FinishRestore
    std::filesystem::path exec_directory;  // for the streams of hooks
  };
  // `on_change` is called without locks held whenever a service's status changed; it must not call
  // back. `keepers` outlives this.
  ProjectRuntime(const Platform& platform, Plan plan, Files files, ThreadSet& keepers,
                 std::function<void()> on_change);
  ~ProjectRuntime();  // as Close

  // What has to be true before the first process of a service runs; it comes about while they are
  // made.
  using Guard = std::shared_future<absl::Status>;

  // Starts what does not run, and finishes a restore. On an error, or when `cancelled` says so, all
  // services are stopped again.
  absl::Status Start(const std::map<std::string, std::string>& secrets, const Guard& guard,
                     const ProgressSink& progress, const std::function<bool()>& cancelled);

  // Stops everything and removes containers and network. What could not be stopped is in the error.
  absl::Status Stop(absl::Duration timeout, const ProgressSink& progress);

  // Takes over containers that an earlier supervisor started; what does not run is restarted as its
  // policy says. Returns false when nothing runs, as after a boot of the machine: call Start then.
  absl::StatusOr<bool> Adopt();

  // Of services that run already: while there is a mark that the state came from a snapshot, runs
  // their postRestore hooks, in the order of the start, and removes the mark. START_FAILED, as from
  // Start, when one fails: the services are stopped, and the mark stays for the next start.
  absl::Status FinishRestore(const ProgressSink& progress, const std::function<bool()>& cancelled);

  // Restarts and saves nothing any more when it returns; leaves the containers as they are. For the
  // owner to call before it lets go: its thread, too, may hold this for a moment, and cannot wait
  // for itself.
  void Close();

  // A process of the project ended. Called by the event watcher.
  void OnExit(const containerd::TaskExit& exit);
  // Events may have been missed: compares with containerd and acts on what ended.
  void Resync();

  // Runs a command in a service's container, as the service's user; its exit code.
  absl::StatusOr<uint32_t> Exec(const std::string& service, const std::vector<std::string>& command,
                                absl::Duration timeout);

  // Runs the hook of one service, which has to run. As supervisor::RunHook.
  absl::Status RunHook(size_t service, HookKind kind, absl::Duration limit,
                       const std::function<bool()>& cancelled);

  // Those of the variables `names` that the services were started with and the plan has otherwise:
  // the secrets, which are nowhere else. Of services that run; none without such.
  absl::StatusOr<std::map<std::string, std::string>> GivenSecrets(
      const std::vector<std::string>& names);

  const Plan& plan() const { return plan_; }
  // Whether the user lets the host reach the ports, which may change while services run: the plan's
  // to begin with.
  bool exposes_ports() const { return exposes_ports_; }
  void SetExposePorts(bool expose) { exposes_ports_ = expose; }
  std::vector<ServiceState> services() const;  // in the plan's order

 private:
  // Services that a failed start leaves behind have done no work that is worth waiting for.
  static constexpr absl::Duration kUndoTimeout = absl::Seconds(5);

  struct PendingRestart {
    int service = 0;
    absl::Time due;
  };

  absl::Status StartLocked(const std::map<std::string, std::string>& secrets, const Guard& guard,
                           const ProgressSink& progress, const std::function<bool()>& cancelled)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(operation_);
  absl::Status StopLocked(absl::Duration timeout, const ProgressSink& progress)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(operation_);
  absl::Status FinishRestoreLocked(const ProgressSink& progress,
                                   const std::function<bool()>& cancelled)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(operation_);
  void UndoStart() ABSL_EXCLUSIVE_LOCKS_REQUIRED(operation_);
  absl::Status StartService(int index, const std::map<std::string, std::string>& secrets,
                            const std::function<absl::Status()>& await_dependencies,
                            const ProgressSink& progress, const std::function<bool()>& cancelled);
  absl::Status RunService(int index, const ProgressSink& progress,
                          const std::function<bool()>& cancelled);
  absl::Status RemoveLeftovers();
  absl::Status WriteRunFiles();
  absl::Status Explain(int index, absl::Status status, absl::Time since);
  absl::Status ExitStatus(int index) const;
  void Restart(int index);
  void KeepAlive();
  // To be called when a state has changed: what follows from that is the keeper's.
  void WakeKeeper() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ServiceEnded(int index, uint32_t exit_code) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Update(int index, const std::function<void(ServiceState&)>& change);
  std::vector<std::vector<int>> Dependencies() const;

  const Platform& platform_;
  const Plan plan_;
  const Files files_;
  std::atomic<bool> exposes_ports_;
  ThreadSet& keepers_;
  const std::function<void()> on_change_;
  std::vector<std::unique_ptr<ServiceContainer>> containers_;

  absl::Mutex operation_;  // held for as long as Start, Stop or one restart takes
  mutable absl::Mutex mutex_ ABSL_ACQUIRED_AFTER(operation_);
  std::vector<ServiceState> states_ ABSL_GUARDED_BY(mutex_);
  std::vector<PendingRestart> pending_ ABSL_GUARDED_BY(mutex_);
  bool wanted_ ABSL_GUARDED_BY(mutex_) = false;  // services that end are to be restarted
  bool unsaved_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  // One of keepers_ runs KeepAlive: only while there is something to save or to restart, for of
  // many projects most rest.
  bool keeping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace vibe::supervisor
