// The rest of Projects: what changes a project that is known.
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "host/project_decisions.h"
#include "host/project_view.h"
#include "host/projects.h"
#include "spdlog/spdlog.h"

namespace vibe::host {

// ---- start and stop

absl::Status Projects::ReservePorts(ProjectRecord& record, const v1::Project& live, bool all) {
  std::vector<ForwardedPort> ports = PortsToForward(record, live);
  std::set<uint16_t> others;
  for (const ProjectRecord& other : world_.library.All()) {
    for (const RecordedService& service : other.services) {
      for (const RecordedPort& port : service.ports) {
        others.insert(other.id == record.id ? uint16_t{0} : port.host_port);
      }
    }
  }
  const absl::Status reserved = all ? world_.ports.Reserve(record.id, ports, others)
                                    : world_.ports.ReserveWhatIsFree(record.id, ports, others);
  if (all) {
    VIBE_RETURN_IF_ERROR(reserved);
  }
  bool changed = false;
  for (const ForwardedPort& port : ports) {
    for (RecordedService& service : record.services) {
      for (RecordedPort& known : service.ports) {
        if (service.name == port.service && known.container_port == port.container_port &&
            known.protocol == ToManifest(port.protocol)) {
          changed = changed || known.host_port != port.host_port;
          known.host_port = port.host_port;
        }
      }
    }
  }
  if (changed) {
    VIBE_RETURN_IF_ERROR(world_.library.Put(record));
  }
  return reserved;
}

absl::StatusOr<Projects::Json> Projects::StartLocked(const ProjectRecord& started,
                                                     const ProgressSink& progress,
                                                     Cancellation& cancel) {
  ProjectRecord record = started;
  VIBE_RETURN_IF_ERROR(EnsureMachine(progress, cancel));
  VIBE_ASSIGN_OR_RETURN(std::optional<v1::Project> live, FindLive(record.id, cancel));
  if (!live) {
    // The machine is new, or was reset: it gets the app from its folder again.
    absl::StatusOr<AppFolder> app = AppFolder::Open(record.path);
    absl::Status status = app.ok() ? app->List() : app.status();
    if (!status.ok()) {
      return Annotate(status, absl::StrCat("the machine does not have ", record.name, " any more"));
    }
    VIBE_ASSIGN_OR_RETURN(live, Bring(*app, record, progress, cancel));
  }
  if (!live->opened()) {
    VIBE_ASSIGN_OR_RETURN(live,
                          world_.supervisor.OpenProject(record.id, Forward(progress), cancel));
  }
  VIBE_RETURN_IF_ERROR(FollowVersion(record, *live));
  const bool was_active = IsActive(*live);
  if (const absl::Status status = ReservePorts(record, *live, /*all=*/true); !status.ok()) {
    SetProblem(record.id, std::string(status.message()));
    return status;
  }
  absl::StatusOr<v1::Project> running =
      world_.supervisor.StartProject(record.id, {}, Forward(progress), cancel);
  if (!running.ok()) {
    if (!was_active) {
      world_.ports.Close(record.id);
    }
    return running.status();
  }
  if (running->app_version() != live->app_version()) {  // it has followed its state only now
    VIBE_RETURN_IF_ERROR(FollowVersion(record, *running));
    VIBE_RETURN_IF_ERROR(ReservePorts(record, *running, /*all=*/true));
  }
  const absl::Status opened = world_.ports.Open(record.id);
  SetProblem(record.id, std::string(opened.message()));
  VIBE_RETURN_IF_ERROR(opened);
  return ViewNow(record.id, *running);
}

absl::StatusOr<Projects::Json> Projects::Start(const std::string& ref, const ProgressSink& progress,
                                               Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(ProjectRecord record, world_.library.Find(ref));
  VIBE_ASSIGN_OR_RETURN(const auto held, Lock(record.name, "start", cancel));
  VIBE_ASSIGN_OR_RETURN(record, world_.library.Find(record.id));
  if (IsRemoval(record.pending)) {
    return WithAdvice(
        absl::FailedPreconditionError(
            absl::StrCat(record.name, " is being removed, and that was interrupted")),
        absl::StrCat("finish it with `vibe rm ", record.name, "`, or open the app again"));
  }
  if (record.pending == Pending::kStop) {
    record.pending = Pending::kNone;
    VIBE_RETURN_IF_ERROR(world_.library.Put(record));
  }
  return StartLocked(record, progress, cancel);
}

absl::StatusOr<Projects::Json> Projects::StopLocked(ProjectRecord record,
                                                    std::optional<uint32_t> timeout_seconds,
                                                    const ProgressSink& progress,
                                                    Cancellation& cancel) {
  world_.ports.Close(record.id);
  SetProblem(record.id, "");
  if (!MachineIsUp()) {
    // The machine remembers what ran, and would start it again at its next boot.
    if (record.pending == Pending::kNone) {
      record.pending = Pending::kStop;
      VIBE_RETURN_IF_ERROR(world_.library.Put(record));
    }
    return View(record, nullptr, "");
  }
  absl::StatusOr<v1::Project> live =
      world_.supervisor.StopProject(record.id, timeout_seconds, Forward(progress), cancel);
  const bool known = !absl::IsNotFound(live.status());
  if (known && !live.ok()) {
    Cancellation again;  // that of the request may be why it failed
    if (const auto now = FindLive(record.id, again); now.ok() && *now) {
      MatchPorts(record, **now);
    }
    return live.status();
  }
  if (record.pending == Pending::kStop) {
    record.pending = Pending::kNone;
    VIBE_RETURN_IF_ERROR(world_.library.Put(record));
  }
  return View(record, known ? &*live : nullptr, "");
}

absl::StatusOr<Projects::Json> Projects::Stop(const std::string& ref,
                                              std::optional<uint32_t> timeout_seconds,
                                              const ProgressSink& progress, Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(ProjectRecord record, world_.library.Find(ref));
  VIBE_ASSIGN_OR_RETURN(const auto held,
                        Lock(record.name, "stop", cancel, ProjectLocks::Priority::kEnding));
  VIBE_ASSIGN_OR_RETURN(record, world_.library.Find(record.id));
  return StopLocked(record, timeout_seconds, progress, cancel);
}

absl::StatusOr<Projects::Json> Projects::Restart(const std::string& ref,
                                                 std::optional<uint32_t> timeout_seconds,
                                                 const ProgressSink& progress,
                                                 Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(ProjectRecord record, world_.library.Find(ref));
  VIBE_ASSIGN_OR_RETURN(const auto held, Lock(record.name, "restart", cancel));
  VIBE_RETURN_IF_ERROR(EnsureMachine(progress, cancel));
  VIBE_ASSIGN_OR_RETURN(record, world_.library.Find(record.id));
  if (const auto health = world_.supervisor.Health(); health.ok() && health->disk_full()) {
    return WithAdvice(Error(absl::StatusCode::kResourceExhausted, Reason::kDiskLow,
                            absl::StrCat("the disk is almost full, and ", record.name,
                                         " could not start again: it is as it was")),
                      health->disk_warning());
  }
  if (record.decisions.expose_ports.value_or(false)) {
    VIBE_RETURN_IF_ERROR(world_.ports.Check(record.id, ExposedPorts(record)));
  }
  VIBE_RETURN_IF_ERROR(StopLocked(record, timeout_seconds, progress, cancel).status());
  VIBE_ASSIGN_OR_RETURN(record, world_.library.Find(record.id));
  return StartLocked(record, progress, cancel);
}

// ---- remove

absl::Status Projects::RemoveLocked(ProjectRecord record, bool keep_data,
                                    const ProgressSink& progress, Cancellation& cancel) {
  record.pending = keep_data ? Pending::kRemoveKeepingData : Pending::kRemove;
  VIBE_RETURN_IF_ERROR(world_.library.Put(record));
  world_.ports.Close(record.id);
  VIBE_RETURN_IF_ERROR(EnsureMachine(progress, cancel));
  progress({.phase = "stop", .service = "", .item = "", .done = 0, .total = 0, .unit = ""});
  VIBE_RETURN_IF_ERROR(world_.supervisor.DeleteProject(record.id, !keep_data, cancel));
  SetProblem(record.id, "");
  if (!keep_data) {
    return world_.library.Remove(record.id);
  }
  record.pending = Pending::kNone;
  record.removed = true;
  record.decisions = {};  // a project that comes back is asked again
  return world_.library.Put(record);
}

absl::Status Projects::Remove(const std::string& ref, bool keep_data, const ProgressSink& progress,
                              Cancellation& cancel) {
  absl::StatusOr<ProjectRecord> record = world_.library.Find(ref);
  if (!record.ok()) {
    const absl::StatusOr<ProjectRecord> kept = world_.library.FindKept(ref);
    if (!absl::IsNotFound(kept.status())) {
      return kept.ok() ? RemoveKept(*kept, keep_data, progress, cancel) : kept.status();
    }
    const std::optional<v1::Project> stray = FindStray(ref, cancel);
    return stray ? RemoveStray(*stray, keep_data, progress, cancel) : record.status();
  }
  VIBE_ASSIGN_OR_RETURN(const auto held,
                        Lock(record->name, "rm", cancel, ProjectLocks::Priority::kEnding));
  VIBE_ASSIGN_OR_RETURN(record, world_.library.Find(record->id));
  return RemoveLocked(*record, keep_data, progress, cancel);
}

// That it is under way is not recorded: until its data is gone it is kept, and can be removed
// again.
absl::Status Projects::RemoveKept(const ProjectRecord& kept, bool keep_data,
                                  const ProgressSink& progress, Cancellation& cancel) {
  if (keep_data) {
    return WithAdvice(absl::FailedPreconditionError(
                          absl::StrCat(kept.name, " is removed already, and its data is kept")),
                      "to delete its data, leave out --keep-data");
  }
  VIBE_ASSIGN_OR_RETURN(const auto held,
                        Lock(kept.name, "rm", cancel, ProjectLocks::Priority::kEnding));
  VIBE_RETURN_IF_ERROR(world_.library.FindKept(kept.id).status());  // nobody opened it meanwhile
  VIBE_RETURN_IF_ERROR(EnsureMachine(progress, cancel));
  VIBE_RETURN_IF_ERROR(world_.supervisor.DeleteProject(kept.id, /*delete_data=*/true, cancel));
  return world_.library.Remove(kept.id);
}

// Nothing of it is recorded, and nothing has to be: until it is gone, it can be removed again.
absl::Status Projects::RemoveStray(const v1::Project& stray, bool keep_data,
                                   const ProgressSink& progress, Cancellation& cancel) {
  if (keep_data) {
    return WithAdvice(absl::FailedPreconditionError(absl::StrCat("this computer has no record of ",
                                                                 stray.name(), ", only its data")),
                      "leave it as it is, or remove it without --keep-data");
  }
  VIBE_ASSIGN_OR_RETURN(const auto held,
                        Lock(stray.name(), "rm", cancel, ProjectLocks::Priority::kEnding));
  progress({.phase = "stop", .service = "", .item = "", .done = 0, .total = 0, .unit = ""});
  return world_.supervisor.DeleteProject(stray.id(), /*delete_data=*/true, cancel);
}

// ---- in the background

void Projects::MatchPorts(const ProjectRecord& record, const v1::Project& live) {
  if (!IsActive(live)) {
    world_.ports.Close(record.id);
    SetProblem(record.id, "");
    return;
  }
  ProjectRecord changed = record;
  absl::Status status = ReservePorts(changed, live, /*all=*/false);
  status.Update(world_.ports.Open(record.id));
  SetProblem(record.id, status.ok() ? ""
                                    : absl::StrCat(status.message(),
                                                   " (Vibe goes on trying): ", AdviceOf(status)));
}

absl::Status Projects::FollowVersion(ProjectRecord& record, const v1::Project& live) {
  if (live.app_version().empty() || live.app_version() == record.app_version ||
      live.services().empty()) {
    return absl::OkStatus();
  }
  record.app_version = live.app_version();
  record.services = ServicesOf(record, live);
  return world_.library.Put(record);
}

absl::Status Projects::FinishPending(const ProjectRecord& record, Cancellation& cancel) {
  const auto silent = [](const Progress&) {};
  if (IsRemoval(record.pending)) {
    return RemoveLocked(record, record.pending == Pending::kRemoveKeepingData, silent, cancel);
  }
  return StopLocked(record, std::nullopt, silent, cancel).status();
}

void Projects::ReconcileOne(const std::string& ref, Cancellation& cancel) {
  absl::StatusOr<ProjectRecord> record = world_.library.Find(ref);
  if (!record.ok() || !MachineIsUp()) {
    return;
  }
  const std::string id = record->id;
  const auto held = locks_.Lock(record->name, "reconcile", absl::ZeroDuration(), cancel,
                                ProjectLocks::Priority::kBackground);
  record = world_.library.Find(id);
  if (!held.ok() || !record.ok()) {
    return;
  }
  if (record->pending != Pending::kNone) {
    if (const absl::Status status = FinishPending(*record, cancel); !status.ok()) {
      spdlog::warn("project {}: what is pending cannot be finished: {}", record->name,
                   status.ToString());
    }
    return;
  }
  auto live = FindLive(id, cancel);
  if (!live.ok() || !*live) {
    return;
  }
  if (const v1::Grants grants = GrantsOf(record->decisions);
      !SameGrants((*live)->grants(), grants)) {
    // Decided while the machine was stopped.
    const auto changed = world_.supervisor.SetGrants(id, grants, cancel);
    if (!changed.ok()) {
      spdlog::warn("project {}: what was decided is not known to the machine yet: {}", record->name,
                   changed.status().ToString());
      return;
    }
    **live = *changed;
  }
  if (const absl::Status status = FollowVersion(*record, **live); !status.ok()) {
    spdlog::warn("project {}: its version is not recorded: {}", record->name, status.ToString());
    return;
  }
  MatchPorts(*record, **live);
}

absl::Status Projects::Reconcile(Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(const auto projects, world_.supervisor.ListProjects(cancel));
  for (const v1::Project& project : projects) {
    const absl::StatusOr<ProjectRecord> record = world_.library.Find(project.id());
    if (record.ok() && (record->pending != Pending::kNone ||
                        !SameGrants(project.grants(), GrantsOf(record->decisions)) ||
                        project.app_version() != record->app_version ||
                        IsActive(project) != world_.ports.IsOpen(record->id))) {
      ReconcileOne(record->id, cancel);
    }
  }
  // A removal may have been interrupted between the machine and the library.
  for (const ProjectRecord& record : world_.library.All()) {
    if (record.pending != Pending::kNone) {
      ReconcileOne(record.id, cancel);
    }
  }
  return absl::OkStatus();
}

}  // namespace vibe::host
