#include "supervisor/project_runtime.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "logs/log_file.h"
#include "network/network.h"
#include "spdlog/spdlog.h"
#include "supervisor/dependency_graph.h"
#include "supervisor/full_disk.h"
#include "supervisor/machine_clock.h"
#include "supervisor/readiness.h"
#include "supervisor/restart_policy.h"
#include "supervisor/service_state_file.h"

namespace vibe::supervisor {
namespace {

constexpr size_t kLogLinesInErrors = 20;

v1::Progress MakeProgress(v1::Progress::Phase phase, const std::string& service,
                          const std::string& item = "") {
  v1::Progress progress;
  progress.set_phase(phase);
  progress.set_service(service);
  progress.set_item(item);
  return progress;
}

// Without a sync: after a power cut nothing of it is needed, and the disk's time would be the
// user's.
absl::Status WriteVolatile(const std::filesystem::path& path, const std::string& content) {
  if (const auto present = ReadFile(path, content.size()); present.ok() && *present == content) {
    return absl::OkStatus();  // a service that runs may have it mounted
  }
  ::unlink(path.c_str());
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!file.valid() ||
      ::write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
    return ErrnoError(errno, absl::StrCat("write ", path.string()));
  }
  return absl::OkStatus();
}

// The runtime removes the services' own groups and leaves the one that they were in. With cgroup v1
// there is one in each hierarchy.
void RemoveCgroup(const Plan& plan) {
  if (plan.services.empty()) {
    return;
  }
  const std::filesystem::path group =
      std::filesystem::path(plan.services[0].cgroup).parent_path().relative_path();
  const std::filesystem::path root = "/sys/fs/cgroup";
  std::vector<std::filesystem::path> groups = {root / group};
  std::error_code error;
  for (const auto& hierarchy : std::filesystem::directory_iterator(root, error)) {
    if (!hierarchy.is_symlink(error)) {
      groups.push_back(hierarchy.path() / group);
    }
  }
  for (const std::filesystem::path& path : groups) {
    ::rmdir(path.c_str());  // one that is still in use stays
  }
}

}  // namespace

ProjectRuntime::ProjectRuntime(const Platform& platform, Plan plan, Files files, ThreadSet& keepers,
                               std::function<void()> on_change)
    : platform_(platform),
      plan_(std::move(plan)),
      files_(std::move(files)),
      exposes_ports_(plan_.expose_ports),
      keepers_(keepers),
      on_change_(std::move(on_change)),
      states_(plan_.services.size()) {
  for (const PlannedService& service : plan_.services) {
    containers_.push_back(std::make_unique<ServiceContainer>(
        platform_, plan_, service, files_.log_directory / absl::StrCat(service.name, ".log"),
        files_.run_directory / absl::StrCat(service.name, ".secrets")));
  }
}

ProjectRuntime::~ProjectRuntime() {
  Close();
}

void ProjectRuntime::Close() {
  const auto rests = [this] {
    mutex_.AssertReaderHeld();
    return !keeping_;
  };
  absl::MutexLock lock(&mutex_);
  closing_ = true;
  mutex_.Await(absl::Condition(&rests));
}

std::vector<ServiceState> ProjectRuntime::services() const {
  absl::MutexLock lock(&mutex_);
  return states_;
}

absl::StatusOr<uint32_t> ProjectRuntime::Exec(const std::string& service,
                                              const std::vector<std::string>& command,
                                              absl::Duration timeout) {
  for (size_t index = 0; index < plan_.services.size(); ++index) {
    if (plan_.services[index].name == service) {
      return containers_[index]->Exec(command, timeout);
    }
  }
  return absl::NotFoundError(absl::StrCat("there is no service ", service));
}

void ProjectRuntime::Update(int index, const std::function<void(ServiceState&)>& change) {
  {
    absl::MutexLock lock(&mutex_);
    change(states_[index]);
    WakeKeeper();
  }
  on_change_();
}

std::vector<std::vector<int>> ProjectRuntime::Dependencies() const {
  std::vector<std::vector<int>> dependencies(plan_.services.size());
  for (size_t from = 0; from < plan_.services.size(); ++from) {
    for (size_t to = 0; to < plan_.services.size(); ++to) {
      const auto& names = plan_.services[from].depends_on;
      if (std::find(names.begin(), names.end(), plan_.services[to].name) != names.end()) {
        dependencies[from].push_back(static_cast<int>(to));
      }
    }
  }
  return dependencies;
}

// ---- start
// ---------------------------------------------------------------------------------------

absl::Status ProjectRuntime::Start(const std::map<std::string, std::string>& secrets,
                                   const Guard& guard, const ProgressSink& progress,
                                   const std::function<bool()>& cancelled) {
  absl::MutexLock operation(&operation_);
  absl::Status status = StartLocked(secrets, guard, progress, cancelled);
  if (status.ok()) {
    status = FinishRestoreLocked(progress, cancelled);
  }
  if (!status.ok()) {
    UndoStart();
  }
  return status;
}

void ProjectRuntime::UndoStart() {
  const std::vector<ServiceState> failed = services();
  StopLocked(kUndoTimeout, [](const v1::Progress&) {}).IgnoreError();
  // Which service failed, and why, stays to be seen; the others are stopped.
  for (size_t index = 0; index < failed.size(); ++index) {
    if (failed[index].status == v1::STATUS_FAILED) {
      Update(static_cast<int>(index), [&](ServiceState& state) {
        state.status = v1::STATUS_FAILED;
        state.message = failed[index].message;
        state.exit_code = failed[index].exit_code;
      });
    }
  }
}

absl::Status ProjectRuntime::StartLocked(const std::map<std::string, std::string>& secrets,
                                         const Guard& guard, const ProgressSink& progress,
                                         const std::function<bool()>& cancelled) {
  const std::vector<ServiceState> before = services();
  if (std::all_of(before.begin(), before.end(),
                  [](const ServiceState& state) { return state.status == v1::STATUS_RUNNING; })) {
    return absl::OkStatus();
  }
  VIBE_RETURN_IF_ERROR(RemoveLeftovers());
  VIBE_RETURN_IF_ERROR(WriteRunFiles());
  {
    absl::MutexLock lock(&mutex_);
    wanted_ = true;
    pending_.clear();
  }
  return RunGraph(Dependencies(), [&](int index, const AwaitDependencies& await) {
    if (before[index].status == v1::STATUS_RUNNING) {
      return absl::OkStatus();
    }
    const auto guarded = [&]() -> absl::Status {
      VIBE_RETURN_IF_ERROR(await());
      return guard.get();
    };
    return StartService(index, secrets, guarded, progress, cancelled);
  });
}

absl::Status ProjectRuntime::StartService(int index,
                                          const std::map<std::string, std::string>& secrets,
                                          const std::function<absl::Status()>& await_dependencies,
                                          const ProgressSink& progress,
                                          const std::function<bool()>& cancelled) {
  const std::string& name = plan_.services[index].name;
  const absl::Time since = absl::Now();
  progress(MakeProgress(v1::Progress::PHASE_CREATE, name));
  Update(index, [](ServiceState& state) {
    state = ServiceState{};
    state.status = v1::STATUS_STARTING;
  });
  absl::Status created = containers_[index]->Create(secrets);
  if (!created.ok()) {
    // What did not get this far is not why the others fail: they are let go first.
    await_dependencies().IgnoreError();
    return Explain(index, std::move(created), since);
  }
  const absl::Time made = absl::Now();
  Update(index, [](ServiceState& state) { state.created = true; });
  if (const absl::Status so_far = await_dependencies(); !so_far.ok()) {
    return so_far;
  }
  const absl::Time free = absl::Now();
  progress(MakeProgress(v1::Progress::PHASE_START, name));
  if (absl::Status started = RunService(index, progress, cancelled); !started.ok()) {
    return Explain(index, std::move(started), since);
  }
  progress(MakeProgress(v1::Progress::PHASE_READY, name));
  spdlog::debug(
      "start of {}/{}: create {:.1f} ms, wait for dependencies {:.1f} ms, start and get "
      "ready {:.1f} ms",
      plan_.project_name, name, absl::ToDoubleMilliseconds(made - since),
      absl::ToDoubleMilliseconds(free - made), absl::ToDoubleMilliseconds(absl::Now() - free));
  return absl::OkStatus();
}

absl::Status ProjectRuntime::RunService(int index, const ProgressSink& progress,
                                        const std::function<bool()>& cancelled) {
  // Before the start, so that no exit of this run can carry an earlier time.
  Update(index, [](ServiceState& state) {
    state.status = v1::STATUS_STARTING;
    state.started_at = MachineTime();
    state.exit_code.reset();
    state.ready = false;
  });
  const absl::Time begun = absl::Now();
  VIBE_RETURN_IF_ERROR(containers_[index]->Start());
  const PlannedService& service = plan_.services[index];
  spdlog::debug("start of {}/{}: process runs after {:.1f} ms", plan_.project_name, service.name,
                absl::ToDoubleMilliseconds(absl::Now() - begun));
  const auto missing = [&](const std::string& what) {
    progress(MakeProgress(v1::Progress::PHASE_WAIT, service.name, what));
  };
  absl::Status ready =
      AwaitReady(plan_.project_name, service, *containers_[index], missing, [&]() -> absl::Status {
        if (cancelled()) {
          return absl::CancelledError("the start was cancelled");
        }
        return ExitStatus(index);
      });
  const bool completed =
      !ready.ok() && service.restart == manifest::Restart::kNo && services()[index].exit_code == 0u;
  if (!ready.ok() && !completed) {
    return ready;
  }
  Update(index, [&](ServiceState& state) {
    mutex_.AssertHeld();
    state.ready = true;
    state.message.clear();
    if (!state.exit_code) {
      state.status = v1::STATUS_RUNNING;
    } else if (completed) {
      state.status = v1::STATUS_STOPPED;
    } else {
      ServiceEnded(index, *state.exit_code);  // it ended in the moment since it was found ready
    }
  });
  return absl::OkStatus();
}

absl::Status ProjectRuntime::ExitStatus(int index) const {
  absl::MutexLock lock(&mutex_);
  if (!states_[index].exit_code) {
    return absl::OkStatus();
  }
  const uint32_t code = *states_[index].exit_code;
  return absl::AbortedError(code > 128 ? absl::StrCat("it was ended by signal ", code - 128)
                                       : absl::StrCat("it exited at once with code ", code));
}

absl::Status ProjectRuntime::Explain(int index, absl::Status status, absl::Time since) {
  const PlannedService& service = plan_.services[index];
  // The task's end closes its logger, and that returns when the last line is in the file.
  containers_[index]->FlushLog();
  std::vector<std::string> lines;
  const auto records =
      logs::ReadTail(files_.log_directory / absl::StrCat(service.name, ".log"), kLogLinesInErrors);
  if (records.ok()) {
    for (const logs::Record& record : *records) {
      if (record.time >= since) {
        lines.push_back(record.text);
      }
    }
  }
  Update(index, [&](ServiceState& state) {
    state.status = absl::IsCancelled(status) ? v1::STATUS_STOPPED : v1::STATUS_FAILED;
    state.message = std::string(status.message());
  });
  status = Annotate(status, absl::StrCat("service ", service.name, " did not start"));
  status = WithReason(MarkFullDisk(std::move(status)), Reason::kStartFailed);
  status = WithService(std::move(status), service.name);
  return WithLog(std::move(status), lines);
}

absl::Status ProjectRuntime::RemoveLeftovers() {
  VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Container> left,
                        platform_.containerd.ListContainers(plan_.containerd_namespace));
  const std::vector<ServiceState> states = services();
  for (size_t index = 0; index < plan_.services.size(); ++index) {
    const bool exists = std::any_of(left.begin(), left.end(), [&](const auto& container) {
      return container.id == plan_.services[index].container_id;
    });
    if (exists && states[index].status != v1::STATUS_RUNNING) {
      VIBE_RETURN_IF_ERROR(
          Annotate(containers_[index]->Remove(),
                   absl::StrCat("remove the last run of service ", plan_.services[index].name)));
    }
  }
  return absl::OkStatus();
}

absl::Status ProjectRuntime::WriteRunFiles() {
  VIBE_RETURN_IF_ERROR(MakeDirectories(files_.run_directory));
  for (const auto& [name, content] : RunFiles(plan_)) {
    VIBE_RETURN_IF_ERROR(WriteVolatile(files_.run_directory / name, content));
  }
  return absl::OkStatus();
}

// ---- stop
// ----------------------------------------------------------------------------------------

absl::Status ProjectRuntime::Stop(absl::Duration timeout, const ProgressSink& progress) {
  {
    // Before waiting for a restart that is under way, so that no further one begins.
    absl::MutexLock lock(&mutex_);
    wanted_ = false;
    pending_.clear();
  }
  absl::MutexLock operation(&operation_);
  return StopLocked(timeout, progress);
}

absl::Status ProjectRuntime::StopLocked(absl::Duration timeout, const ProgressSink& progress) {
  {
    absl::MutexLock lock(&mutex_);
    wanted_ = false;
    pending_.clear();
  }
  absl::Status status = RunGraph(Reversed(Dependencies()), [&](int index,
                                                               const AwaitDependencies& await) {
    await().IgnoreError();  // a service that cannot be stopped must not keep the others alive
    const std::string& name = plan_.services[index].name;
    progress(MakeProgress(v1::Progress::PHASE_STOP, name));
    Update(index, [](ServiceState& state) { state.status = v1::STATUS_STOPPING; });
    absl::Status stopped = containers_[index]->Stop(timeout, [&](absl::Duration left) {
      progress(MakeProgress(v1::Progress::PHASE_STOP, name,
                            absl::StrCat("(it does not end when asked to, and is killed in ",
                                         absl::ToInt64Seconds(left), " s)")));
    });
    stopped.Update(containers_[index]->Remove());
    Update(index, [&](ServiceState& state) {
      state.status = stopped.ok() ? v1::STATUS_STOPPED : v1::STATUS_FAILED;
      state.created = !stopped.ok();
      state.started_at = absl::InfinitePast();
      state.message = std::string(stopped.message());
    });
    return WithService(Annotate(stopped, absl::StrCat("service ", name, " did not stop")), name);
  });
  status.Update(network::RemoveBridge(plan_.network_index));
  RemoveCgroup(plan_);
  status.Update(RemoveAll(files_.run_directory));
  return status;
}

}  // namespace vibe::supervisor
