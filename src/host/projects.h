// What can be done with projects. Each operation on a project excludes the others on it; what it is
// about to do is in the library before it acts, so that the next start of vibed, or the next
// request, can finish it.
//
// Thread-safe; blocking. An operation that is cancelled returns Cancelled, and the project can be
// started, stopped or removed from whatever state that left it in.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "host/app_folder.h"
#include "host/cancellation.h"
#include "host/library.h"
#include "host/port_choice.h"
#include "host/port_forwarder.h"
#include "host/progress.h"
#include "host/project_locks.h"
#include "host/supervisor_client.h"
#include "vm/machine.h"

namespace vibe::host {

struct OpenRequest {
  std::string path;
  std::string name;               // empty: made from the app's
  Decisions decisions;            // those that are set replace the project's
  std::vector<PortChoice> ports;  // remembered for the project
};

struct LogRequest {
  std::string ref;
  std::string service;  // empty: all
  bool follow = false;
  uint32_t tail = 100;
};

struct SaveOptions {
  std::string message;
  std::map<std::string, std::string> labels;
  bool skip_hooks = false;  // the services' own hooks are not run
};

struct RestoreOptions {
  std::string snapshot;  // an id, or the beginning of one
  bool safety = true;    // a snapshot of what there is now comes first
  bool verify = false;   // every byte is compared with the snapshot's digests
  bool skip_hooks = false;
};

struct DuplicateOptions {
  std::string name;
  std::string snapshot;  // empty: the state as it is now
};

class Projects {
 public:
  // All outlive it.
  struct World {
    Library& library;
    vm::Machine& machine;
    SupervisorClient& supervisor;
    PortForwarder& ports;
  };
  using Json = nlohmann::json;  // the schema Project, unless said otherwise
  using JsonSink = std::function<absl::Status(const Json&)>;

  explicit Projects(World world);

  absl::StatusOr<Json> Inspect(const std::string& path, const std::string& name,
                               Cancellation& cancel);  // the schema Inspection
  Json List(Cancellation& cancel);                     // an array
  Json ListKept() const;                               // an array of the schema KeptProject
  // Get and Remove know what List leaves out too: projects whose data was kept when they were
  // removed, and those of the machine that are not in the library, which a crash of an earlier
  // build may have left.
  absl::StatusOr<Json> Get(const std::string& ref, Cancellation& cancel);

  absl::StatusOr<Json> Open(const OpenRequest& request, const ProgressSink& progress,
                            Cancellation& cancel);
  absl::StatusOr<Json> Start(const std::string& ref, const ProgressSink& progress,
                             Cancellation& cancel);
  absl::StatusOr<Json> Stop(const std::string& ref, std::optional<uint32_t> timeout_seconds,
                            const ProgressSink& progress, Cancellation& cancel);
  absl::StatusOr<Json> Restart(const std::string& ref, std::optional<uint32_t> timeout_seconds,
                               const ProgressSink& progress, Cancellation& cancel);
  // Replaces those decisions that are set. They hold at once, also of services that run; of a
  // machine that is stopped, from its next start on. FailedPrecondition when one allows what
  // the app does not ask for.
  absl::StatusOr<Json> Decide(const std::string& ref, const Decisions& decisions,
                              Cancellation& cancel);
  absl::Status Remove(const std::string& ref, bool keep_data, const ProgressSink& progress,
                      Cancellation& cancel);

  // Snapshots and copies (project_snapshots.cpp): an array of the schema Snapshot; one of
  // them; the schema Restored; the new project.
  absl::StatusOr<Json> Snapshots(const std::string& ref, Cancellation& cancel);
  absl::StatusOr<Json> Save(const std::string& ref, const SaveOptions& options,
                            const ProgressSink& progress, Cancellation& cancel);
  // The id of the one that is removed.
  absl::StatusOr<std::string> DeleteSnapshot(const std::string& ref, const std::string& snapshot,
                                             const ProgressSink& progress, Cancellation& cancel);
  absl::StatusOr<Json> Restore(const std::string& ref, const RestoreOptions& options,
                               const ProgressSink& progress, Cancellation& cancel);
  absl::StatusOr<Json> Duplicate(const std::string& ref, const DuplicateOptions& options,
                                 const ProgressSink& progress, Cancellation& cancel);

  // Lines as the schema LogLine, until the end or, with follow, until it is cancelled or the sink
  // fails.
  absl::Status Logs(const LogRequest& request, const JsonSink& sink, Cancellation& cancel);
  // `start` without its id. NOT_RUNNING when the service does not run.
  absl::StatusOr<std::unique_ptr<SupervisorClient::Exec>> Exec(const std::string& ref,
                                                               v1::ExecRequest::Start start,
                                                               Cancellation& cancel);

  // Ends what works on projects and lets nothing begin until the result is gone.
  absl::StatusOr<ProjectLocks::Closed> Close(const std::string& operation) {
    return locks_.Close(operation);
  }

  // Ends what users began with projects, such as a start that hangs; `operation` is why.
  void Interrupt(const std::string& operation);

  // That the disk is nearly full, and what to delete, for the user; empty when it is not, or when
  // the machine does not run.
  std::string DiskWarning();

  // Of each project whose ports are not all open though it runs: its name, and why.
  std::vector<std::string> PortProblems() const;

  // Boots the machine when it does not run, with a progress event.
  absl::Status EnsureMachine(const ProgressSink& progress, Cancellation& cancel);

  // Makes listeners match what runs, and finishes what is pending, of every project; where an
  // operation works, when that has ended. Fails when the supervisor does not answer.
  absl::Status Reconcile(Cancellation& cancel);
  // The same for one project.
  void ReconcileOne(const std::string& ref, Cancellation& cancel);

 private:
  struct Live {
    std::map<std::string, v1::Project> projects;  // by id
    std::string message;                          // why it is not known
    bool told = true;  // nothing runs of what is not among them; else nobody can tell
  };

  bool MachineIsUp() const;
  Live AskMachine(Cancellation& cancel);
  // `live` is null for what does not run, and for what nobody tells of (`told`).
  Json View(const ProjectRecord& record, const v1::Project* live, const std::string& message,
            bool told = true) const;
  Json View(const ProjectRecord& record, const Live& live) const;
  absl::StatusOr<Json> ViewNow(const std::string& id, const v1::Project& live) const;

  absl::StatusOr<ProjectLocks::Held> Lock(
      const std::string& name, const char* operation, Cancellation& cancel,
      ProjectLocks::Priority priority = ProjectLocks::Priority::kUser);
  absl::StatusOr<std::optional<v1::Project>> FindLive(const std::string& id, Cancellation& cancel);
  // The project of the machine with that id or name that the library has no record of; nullopt:
  // none, or the machine does not run.
  std::optional<v1::Project> FindStray(absl::string_view ref, Cancellation& cancel);
  // Not in the library yet when it is a new one.
  absl::StatusOr<ProjectRecord> PrepareOpen(const AppFolder& app, const std::string& name,
                                            const Decisions& decisions,
                                            const ProgressSink& progress, Cancellation& cancel);
  absl::StatusOr<v1::Project> Bring(const AppFolder& app, const ProjectRecord& record,
                                    const ProgressSink& progress, Cancellation& cancel);

  // With the project's lock held.
  absl::StatusOr<Json> StartLocked(const ProjectRecord& record, const ProgressSink& progress,
                                   Cancellation& cancel);
  absl::StatusOr<Json> StopLocked(ProjectRecord record, std::optional<uint32_t> timeout_seconds,
                                  const ProgressSink& progress, Cancellation& cancel);
  absl::Status RemoveLocked(ProjectRecord record, bool keep_data, const ProgressSink& progress,
                            Cancellation& cancel);
  absl::Status RemoveKept(const ProjectRecord& kept, bool keep_data, const ProgressSink& progress,
                          Cancellation& cancel);
  absl::Status RemoveStray(const v1::Project& stray, bool keep_data, const ProgressSink& progress,
                           Cancellation& cancel);
  // Those that the user chose, of this project: nothing is changed when one cannot be had.
  absl::Status CheckPortChoices(const std::vector<PortChoice>& choices,
                                ProjectRecord& record) const;
  // `all`: nothing is changed when one cannot be had; else those are reserved that can be.
  absl::Status ReservePorts(ProjectRecord& record, const v1::Project& live, bool all);
  void MatchPorts(const ProjectRecord& record, const v1::Project& live);
  // The machine may have another version of the app than was opened last: a restore brings it back.
  absl::Status FollowVersion(ProjectRecord& record, const v1::Project& live);
  // `failed` with how to go back to the version that `before` has, which another has replaced.
  absl::Status WithWayBack(absl::Status failed, const v1::Project& before);
  absl::Status FinishPending(const ProjectRecord& record, Cancellation& cancel);
  absl::StatusOr<std::string> SnapshotId(const ProjectRecord& record, const std::string& text,
                                         Cancellation& cancel);
  void SetProblem(const std::string& id, const std::string& message);
  // With the advice when it says that the machine has another project of that name.
  static absl::Status StrayInTheWay(absl::Status status, const std::string& name);

  const World world_;
  ProjectLocks locks_;  // by name
  mutable absl::Mutex mutex_;
  std::map<std::string, std::string> problems_
      ABSL_GUARDED_BY(mutex_);  // with ports, by project id
};

}  // namespace vibe::host
