#include "host/projects.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/random.h"
#include "base/status.h"
#include "host/project_decisions.h"
#include "host/project_view.h"
#include "manifest/parse.h"
#include "spdlog/spdlog.h"

namespace vibe::host {
namespace {

// A client that interrupts one operation and asks for another at once finds the first one's end
// still under way.
constexpr absl::Duration kLockPatience = absl::Seconds(10);

absl::Status CheckDecided(const manifest::Manifest& manifest, const Decisions& decisions) {
  const std::vector<std::string> open = Undecided(manifest, decisions);
  if (open.empty()) {
    return absl::OkStatus();
  }
  return WithAdvice(
      absl::FailedPreconditionError(absl::StrCat(manifest.name,
                                                 " asks for capabilities that nobody has allowed "
                                                 "or refused yet: ",
                                                 absl::StrJoin(open, "; "))),
      "run `vibe open` in a terminal and answer, or with --yes to allow all");
}

// Said before anything is copied or pulled: there is no way yet to give the machine a secret.
absl::Status CheckSecrets(const manifest::Manifest& manifest) {
  for (const manifest::Secret& secret : manifest.secrets) {
    if (secret.required) {
      return WithAdvice(
          Error(absl::StatusCode::kFailedPrecondition, Reason::kMissingSecret,
                absl::StrCat(manifest.name, " needs the secret ", secret.name,
                             ", and this version of Vibe cannot be given secrets yet")),
          "make it optional in the manifest (`required: false`), if the app can run without");
    }
  }
  return absl::OkStatus();
}

// Whether the folder that it was opened from last still holds the version that it is.
bool FolderHolds(const ProjectRecord& record) {
  const auto app = AppFolder::Open(record.path);
  return app.ok() && app->manifest().id == record.app_id &&
         app->manifest().version == record.app_version;
}

// The service that `name` means: it may be left out when there is one only.
absl::StatusOr<std::string> ServiceForExec(const v1::Project& live, const std::string& name) {
  std::vector<std::string> names;
  for (const v1::ServiceStatus& service : live.services()) {
    names.push_back(service.name());
    if (service.name() == name || (name.empty() && live.services_size() == 1)) {
      if (service.status() == v1::STATUS_RUNNING || service.status() == v1::STATUS_STARTING) {
        return service.name();
      }
      return WithAdvice(
          WithService(Error(absl::StatusCode::kFailedPrecondition, Reason::kNotRunning,
                            absl::StrCat("the service ", service.name(), " is not running")),
                      service.name()),
          absl::StrCat("start it with `vibe start ", live.name(), "`"));
    }
  }
  const std::string list = absl::StrJoin(names, ", ");
  if (name.empty()) {
    return WithAdvice(absl::InvalidArgumentError("the project has several services"),
                      absl::StrCat("say which one: ", list));
  }
  return WithAdvice(Error(absl::StatusCode::kNotFound, Reason::kNotFound,
                          absl::StrCat("there is no service called ", name)),
                    absl::StrCat("the services are ", list));
}

}  // namespace

Projects::Projects(World world)
    : world_(world), locks_([this](const std::string& name) {
        Cancellation never;  // that of the operation is no concern of this
        ReconcileOne(name, never);
      }) {}

// ---- what is there

void Projects::Interrupt(const std::string& operation) {
  locks_.Interrupt(operation, kLockPatience);
}

bool Projects::MachineIsUp() const {
  const vm::MachineState state = world_.machine.status().state;
  return state == vm::MachineState::kReady || state == vm::MachineState::kBusy;
}

std::string Projects::DiskWarning() {
  if (!MachineIsUp()) {
    return "";
  }
  const auto health = world_.supervisor.Health();
  return health.ok() ? health->disk_warning() : "";
}

Projects::Live Projects::AskMachine(Cancellation& cancel) {
  Live live;
  const vm::MachineStatus machine = world_.machine.status();
  if (!MachineIsUp()) {
    if (machine.state == vm::MachineState::kError) {
      live.message = absl::StrCat("the machine does not run: ", machine.error);
    } else if (machine.state != vm::MachineState::kStopped) {
      // It may be one that runs and that an earlier vibed left.
      live.told = false;
      live.message = absl::StrCat("the machine is ", vm::StateName(machine.state),
                                  machine.error.empty() ? "" : ": ", machine.error);
    }
    return live;
  }
  const auto projects = world_.supervisor.ListProjects(cancel);
  if (!projects.ok()) {
    live.told = false;
    live.message = std::string(projects.status().message());
    return live;
  }
  for (const v1::Project& project : *projects) {
    live.projects[project.id()] = project;
  }
  return live;
}

Projects::Json Projects::View(const ProjectRecord& record, const v1::Project* live,
                              const std::string& message, bool told) const {
  const absl::MutexLock lock(&mutex_);
  const auto problem = problems_.find(record.id);
  const bool tell =
      message.empty() && problem != problems_.end() && live != nullptr && IsActive(*live);
  return ProjectJson(record, live, world_.ports.Traffic(record.id),
                     tell ? problem->second : message, told ? kStopped : kUnknown);
}

Projects::Json Projects::View(const ProjectRecord& record, const Live& live) const {
  const auto found = live.projects.find(record.id);
  return View(record, found == live.projects.end() ? nullptr : &found->second, live.message,
              live.told);
}

absl::StatusOr<Projects::Json> Projects::ViewNow(const std::string& id,
                                                 const v1::Project& live) const {
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, world_.library.Find(id));
  return View(record, &live, "");
}

void Projects::SetProblem(const std::string& id, const std::string& message) {
  const absl::MutexLock lock(&mutex_);
  if (message.empty()) {
    problems_.erase(id);
  } else if (problems_[id] != message) {
    problems_[id] = message;
    spdlog::warn("project {}: {}", id, message);
  }
}

std::vector<std::string> Projects::PortProblems() const {
  std::vector<std::string> problems;
  if (!MachineIsUp()) {
    return problems;
  }
  for (const ProjectRecord& record : world_.library.All()) {
    const absl::MutexLock lock(&mutex_);
    if (const auto problem = problems_.find(record.id); problem != problems_.end()) {
      problems.push_back(absl::StrCat(record.name, ": ", problem->second));
    }
  }
  return problems;
}

Projects::Json Projects::List(Cancellation& cancel) {
  Json list = Json::array();
  const std::vector<ProjectRecord> records = world_.library.All();
  const Live live = records.empty() ? Live() : AskMachine(cancel);
  for (const ProjectRecord& record : records) {
    list.push_back(View(record, live));
  }
  return list;
}

Projects::Json Projects::ListKept() const {
  Json list = Json::array();
  for (const ProjectRecord& record : world_.library.Kept()) {
    list.push_back({{"id", record.id},
                    {"name", record.name},
                    {"appId", record.app_id},
                    {"version", record.app_version}});
  }
  return list;
}

absl::StatusOr<Projects::Json> Projects::Get(const std::string& ref, Cancellation& cancel) {
  const absl::StatusOr<ProjectRecord> record = world_.library.Find(ref);
  if (record.ok()) {
    return View(*record, AskMachine(cancel));
  }
  const absl::StatusOr<ProjectRecord> kept = world_.library.FindKept(ref);
  if (kept.ok()) {
    return View(*kept, nullptr, AdviceOf(record.status()));
  }
  if (!absl::IsNotFound(kept.status())) {
    return kept.status();
  }
  const std::optional<v1::Project> stray = FindStray(ref, cancel);
  if (!stray) {
    return record.status();
  }
  ProjectRecord shown;
  shown.id = stray->id();
  shown.name = stray->name();
  shown.app_id = stray->app_id();
  shown.app_version = stray->app_version();
  return View(shown, &*stray,
              absl::StrCat("this computer has no record of it; `vibe rm ", ref,
                           "` removes it with its data"));
}

absl::StatusOr<Projects::Json> Projects::Inspect(const std::string& path, const std::string& name,
                                                 Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(const AppFolder app, AppFolder::Open(path));
  const manifest::Manifest& manifest = app.manifest();
  const std::string project_name = name.empty() ? Slug(manifest.name) : name;
  VIBE_RETURN_IF_ERROR(CheckProjectName(project_name));
  Json project;
  Decisions decisions;
  const auto record = world_.library.FindForOpen(project_name, manifest.id);
  if (record && !record->removed && record->app_id == manifest.id) {
    decisions = record->decisions;
    VIBE_ASSIGN_OR_RETURN(project, Get(record->id, cancel));
  }
  return Json{
      {"name", project_name},
      {"app", {{"id", manifest.id}, {"name", manifest.name}, {"version", manifest.version}}},
      {"path", app.root().string()},
      {"project", project},
      {"capabilities", CapabilitiesJson(manifest, decisions)}};
}

// ---- open

absl::StatusOr<ProjectLocks::Held> Projects::Lock(const std::string& name, const char* operation,
                                                  Cancellation& cancel,
                                                  ProjectLocks::Priority priority) {
  return locks_.Lock(name, operation, kLockPatience, cancel, priority);
}

absl::Status Projects::EnsureMachine(const ProgressSink& progress, Cancellation& cancel) {
  if (!MachineIsUp()) {
    progress({.phase = "boot", .service = "", .item = "", .done = 0, .total = 0, .unit = ""});
    VIBE_RETURN_IF_ERROR(world_.machine.EnsureReady());
    progress(
        {.phase = "ready", .service = "", .item = "machine", .done = 0, .total = 0, .unit = ""});
  }
  return cancel.Check();
}

absl::StatusOr<std::optional<v1::Project>> Projects::FindLive(const std::string& id,
                                                              Cancellation& cancel) {
  absl::StatusOr<v1::Project> live = world_.supervisor.GetProject(id, cancel);
  if (absl::IsNotFound(live.status())) {
    return std::optional<v1::Project>();
  }
  VIBE_RETURN_IF_ERROR(live.status());
  return std::optional<v1::Project>(*std::move(live));
}

std::optional<v1::Project> Projects::FindStray(absl::string_view ref, Cancellation& cancel) {
  if (!MachineIsUp()) {
    return std::nullopt;
  }
  const auto projects = world_.supervisor.ListProjects(cancel);
  if (projects.ok()) {
    for (const v1::Project& project : *projects) {
      if ((project.id() == ref || project.name() == ref) && !world_.library.Knows(project.id())) {
        return project;
      }
    }
  }
  return std::nullopt;
}

absl::Status Projects::StrayInTheWay(absl::Status status, const std::string& name) {
  return absl::IsAlreadyExists(status)
             ? WithAdvice(std::move(status),
                          absl::StrCat("the machine has it, but this computer no record of it: "
                                       "choose another name, or remove it with its data: `vibe rm ",
                                       name, "`"))
             : status;
}

absl::Status Projects::WithWayBack(absl::Status failed, const v1::Project& before) {
  Cancellation again;
  const auto snapshots = world_.supervisor.ListSnapshots(before.id(), again);
  if (absl::IsCancelled(failed) || !snapshots.ok()) {
    return failed;
  }
  const auto newest =
      std::find_if(snapshots->begin(), snapshots->end(), [&](const v1::Snapshot& snapshot) {
        return snapshot.reason() == "before-upgrade" &&
               snapshot.app_version() == before.app_version();
      });
  return newest == snapshots->end()
             ? failed
             : AddAdvice(
                   std::move(failed),
                   absl::StrCat("a snapshot was taken before: to go back to version ",
                                before.app_version(), ", `vibe restore ", before.name(), " ",
                                newest->snapshot_id(), "`, then `vibe start ", before.name(), "`"));
}

// The record to open: an earlier one of the same app, or a new one.
absl::StatusOr<ProjectRecord> Projects::PrepareOpen(const AppFolder& app, const std::string& name,
                                                    const Decisions& decisions,
                                                    const ProgressSink& progress,
                                                    Cancellation& cancel) {
  const manifest::Manifest& manifest = app.manifest();
  std::optional<ProjectRecord> known = world_.library.FindForOpen(name, manifest.id);
  if (known && !known->removed && known->app_id != manifest.id) {
    return WithAdvice(
        Error(absl::StatusCode::kAlreadyExists, Reason::kConflict,
              absl::StrCat("the project ", name, " belongs to another app, ", known->app_id)),
        "choose another name with --name");
  }
  if (known && IsRemoval(known->pending)) {
    VIBE_RETURN_IF_ERROR(CheckDecided(manifest, decisions));
    VIBE_RETURN_IF_ERROR(
        RemoveLocked(*known, known->pending == Pending::kRemoveKeepingData, progress, cancel));
    known = world_.library.FindForOpen(name, manifest.id);
  }
  if (known && !known->removed) {
    known->decisions = Merge(known->decisions, decisions);
    VIBE_RETURN_IF_ERROR(CheckDecided(manifest, known->decisions));
    return *std::move(known);
  }
  VIBE_RETURN_IF_ERROR(CheckDecided(manifest, decisions));
  ProjectRecord record;
  record.id = known ? known->id : RandomUuid();
  record.name = name;
  record.app_id = manifest.id;
  record.app_version = manifest.version;
  record.path = app.root().string();
  record.created_at = known ? known->created_at : absl::Now();
  record.decisions = decisions;
  if (known) {
    record.services = known->services;
  }
  return record;
}

// Makes the machine know the project as the folder and the record say.
absl::StatusOr<v1::Project> Projects::Bring(const AppFolder& app, const ProjectRecord& record,
                                            const ProgressSink& progress, Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(const v1::PackageIndex index,
                        app.Index([&](uint64_t, uint64_t) { return cancel.Check(); }));
  uint64_t total = 0;
  for (const v1::PackageFile& file : index.files()) {
    total += file.size();
  }
  FileReader reader(app.files());
  uint64_t done = 0;
  const auto next = [&]() -> absl::StatusOr<std::string> {
    VIBE_ASSIGN_OR_RETURN(std::string chunk, reader.Next());
    if (!chunk.empty()) {
      done += chunk.size();
      progress({.phase = "upload",
                .service = "",
                .item = "",
                .done = done,
                .total = total,
                .unit = "bytes"});
    }
    return chunk;
  };
  v1::EnsureProjectRequest request;
  VIBE_ASSIGN_OR_RETURN(*request.mutable_package_digest(),
                        world_.supervisor.ImportPackage(index, next, cancel));
  request.set_id(record.id);
  request.set_name(record.name);
  request.set_manifest_json(manifest::ToJson(app.manifest()));
  *request.mutable_grants() = GrantsOf(record.decisions);
  return world_.supervisor.EnsureProject(request, cancel);
}

absl::Status Projects::CheckPortChoices(const std::vector<PortChoice>& choices,
                                        ProjectRecord& record) const {
  if (choices.empty()) {
    return absl::OkStatus();
  }
  std::vector<ProjectRecord> others = world_.library.All();
  for (ProjectRecord& other : others) {
    if (!FolderHolds(other)) {
      other.path.clear();  // to open it would give the project another version
    }
  }
  VIBE_RETURN_IF_ERROR(ApplyPortChoices(choices, others, record));
  return record.decisions.expose_ports.value_or(false)
             ? world_.ports.Check(record.id, ExposedPorts(record))
             : absl::OkStatus();
}

absl::StatusOr<Projects::Json> Projects::Open(const OpenRequest& request,
                                              const ProgressSink& progress, Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(AppFolder app, AppFolder::Open(request.path));
  VIBE_RETURN_IF_ERROR(app.List());
  const std::string name = request.name.empty() ? Slug(app.manifest().name) : request.name;
  VIBE_RETURN_IF_ERROR(CheckProjectName(name));
  VIBE_ASSIGN_OR_RETURN(const auto held, Lock(name, "open", cancel));
  VIBE_ASSIGN_OR_RETURN(ProjectRecord record,
                        PrepareOpen(app, name, request.decisions, progress, cancel));
  record.services = MergeServices(app.manifest(), record.services);
  VIBE_RETURN_IF_ERROR(CheckPortChoices(request.ports, record));
  VIBE_RETURN_IF_ERROR(CheckSecrets(app.manifest()));
  const auto known = world_.library.FindForOpen(name, app.manifest().id);
  const bool is_new = !known || known->removed;
  if (is_new) {
    VIBE_RETURN_IF_ERROR(world_.library.Put(record));
  }
  VIBE_RETURN_IF_ERROR(EnsureMachine(progress, cancel));
  VIBE_ASSIGN_OR_RETURN(const std::optional<v1::Project> before, FindLive(record.id, cancel));
  const absl::StatusOr<v1::Project> after = Bring(app, record, progress, cancel);
  if (is_new && absl::IsAlreadyExists(after.status())) {
    VIBE_RETURN_IF_ERROR(known ? world_.library.Put(*known) : world_.library.Remove(record.id));
  }
  VIBE_RETURN_IF_ERROR(StrayInTheWay(after.status(), name));
  record.app_version = app.manifest().version;
  record.path = app.root().string();
  record.pending = Pending::kNone;
  VIBE_RETURN_IF_ERROR(world_.library.Put(record));
  // What runs still runs as it was started; a change of the app reaches it by a restart only.
  absl::Status stopped;
  if (before && IsActive(*before) && before->opened() && !after->opened()) {
    stopped = StopLocked(record, std::nullopt, progress, cancel).status();
  }
  absl::StatusOr<Json> opened = stopped.ok() ? StartLocked(record, progress, cancel) : stopped;
  if (!opened.ok()) {
    return before && before->app_version() != after->app_version()
               ? WithWayBack(opened.status(), *before)
               : opened.status();
  }
  (*opened)["diskWarning"] = DiskWarning();
  return opened;
}

// ---- logs and exec

absl::Status Projects::Logs(const LogRequest& request, const JsonSink& sink, Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, world_.library.Find(request.ref));
  if (!MachineIsUp()) {
    // Booting it would start every app that ran: more than a look at a log may do.
    return WithAdvice(
        Error(absl::StatusCode::kFailedPrecondition, Reason::kNotRunning,
              absl::StrCat("the logs of ", record.name, " are in the machine, which is stopped")),
        "start it with `vibe machine start`");
  }
  v1::GetProjectLogsRequest logs;
  logs.set_id(record.id);
  logs.set_service(request.service);
  logs.set_follow(request.follow);
  logs.set_tail(request.tail);
  return world_.supervisor.Logs(
      logs, [&](const v1::LogLine& line) { return sink(LogLineJson(line)); }, cancel);
}

absl::StatusOr<std::unique_ptr<SupervisorClient::Exec>> Projects::Exec(const std::string& ref,
                                                                       v1::ExecRequest::Start start,
                                                                       Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, world_.library.Find(ref));
  std::optional<v1::Project> live;
  if (MachineIsUp()) {
    VIBE_ASSIGN_OR_RETURN(live, FindLive(record.id, cancel));
  }
  // Known before the protocol is switched, these are plain answers.
  if (!live || !IsActive(*live)) {
    return WithAdvice(Error(absl::StatusCode::kFailedPrecondition, Reason::kNotRunning,
                            absl::StrCat(record.name, " is not running")),
                      absl::StrCat("start it with `vibe start ", record.name, "`"));
  }
  VIBE_ASSIGN_OR_RETURN(*start.mutable_service(), ServiceForExec(*live, start.service()));
  start.set_id(record.id);
  return world_.supervisor.StartExec(start);
}

}  // namespace vibe::host
