#include "supervisor/supervisor.h"

#include <algorithm>
#include <future>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "manifest/parse.h"
#include "oci/layout.h"
#include "oci/reference.h"
#include "spdlog/spdlog.h"
#include "supervisor/full_disk.h"
#include "supervisor/project_state.h"
#include "supervisor/project_view.h"
#include "supervisor/snapshot_call.h"

namespace vibe::supervisor {
namespace {

bool IsProjectId(const std::string& id) {
  return id.size() == 36 && id.find_first_not_of("0123456789abcdef-") == std::string::npos;
}

bool IsProjectName(const std::string& name) {
  return !name.empty() && name.size() <= 63 && name[0] != '-' &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
}

absl::Status NoProject(const std::string& id) {
  return WithAdvice(Error(absl::StatusCode::kNotFound, Reason::kNotFound,
                          absl::StrCat("there is no project ", id, " in the machine")),
                    "open the app again with `vibe open`");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Supervisor>> Supervisor::Open(Options options) {
  WorkingRoom(options.data).Make();  // an earlier one may have ended for want of it
  VIBE_RETURN_IF_ERROR(MakeDirectories(options.data / "projects"));
  VIBE_RETURN_IF_ERROR(MakeDirectories(options.run));
  VIBE_ASSIGN_OR_RETURN(auto store, ProjectStore::Open(options.data / "supervisor.db"));
  auto supervisor =
      std::unique_ptr<Supervisor>(new Supervisor(std::move(options), std::move(store)));
  VIBE_RETURN_IF_ERROR(supervisor->packages_.Clean());
  return supervisor;
}

Supervisor::Supervisor(Options options, std::unique_ptr<ProjectStore> store)
    : options_(std::move(options)),
      started_at_(absl::Now()),
      store_(std::move(store)),
      working_room_(options_.data),
      packages_(options_.data / "packages"),
      containerd_({.socket_path = options_.containerd_socket, .runtime_binary = options_.runtime}),
      images_(containerd_),
      platform_{.containerd = containerd_,
                .images = images_,
                .network = {.cni_plugins = options_.cni_plugins},
                .logger = options_.logger},
      host_(options_.run, options_.firewall.blocked4),
      firewall_(options_.firewall, host_),
      completion_(std::make_unique<SnapshotCompletion>(
          [this](const std::string& id, const std::string& snapshot_id, std::stop_token stop) {
            CompleteSnapshot(id, snapshot_id, stop);
          })) {}

Supervisor::~Supervisor() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  }
  completion_->End();
  watch_cancellation_.Cancel();
  if (watcher_.joinable()) {
    watcher_.join();
  }
  for (std::thread& recovery : recoveries_) {
    recovery.join();
  }
  for (const std::shared_ptr<ProjectRuntime>& runtime : Runtimes()) {
    runtime->Close();  // its changes are published until then
  }
}

// ---- projects in memory ----

absl::StatusOr<manifest::Manifest> Supervisor::ManifestOf(const ProjectRecord& record) {
  manifest::ParseResult parsed = manifest::Parse(record.manifest_json);
  if (!parsed.manifest) {
    return manifest::ToStatus(parsed, "manifest");
  }
  return *std::move(parsed.manifest);
}

absl::StatusOr<ProjectRecord> Supervisor::Record(const std::string& id) {
  auto record = store_->Get(id);
  return absl::IsNotFound(record.status()) ? NoProject(id) : record;
}

std::shared_ptr<Supervisor::Entry> Supervisor::EntryOf(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<Entry>& entry = entries_[id];
  if (entry == nullptr) {
    entry = std::make_shared<Entry>();
  }
  return entry;
}

std::shared_ptr<ProjectRuntime> Supervisor::RuntimeOf(const std::string& id) {
  std::shared_ptr<Entry> entry;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = entries_.find(id);
    if (found == entries_.end()) {
      return nullptr;  // asking for what is not there must not make it
    }
    entry = found->second;
  }
  absl::MutexLock lock(&entry->mutex);
  return entry->runtime;
}

std::vector<std::shared_ptr<ProjectRuntime>> Supervisor::Runtimes() {
  std::vector<std::string> ids;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [id, entry] : entries_) {
      ids.push_back(id);
    }
  }
  std::vector<std::shared_ptr<ProjectRuntime>> runtimes;
  for (const std::string& id : ids) {
    if (auto runtime = RuntimeOf(id)) {
      runtimes.push_back(std::move(runtime));
    }
  }
  return runtimes;
}

absl::StatusOr<Plan> Supervisor::PlanOf(const ProjectRecord& record) const {
  VIBE_ASSIGN_OR_RETURN(manifest::Manifest manifest, ManifestOf(record));
  return MakePlan({.project_id = record.id,
                   .project_name = record.name,
                   .manifest = std::move(manifest),
                   .network_index = record.network_index,
                   .pool = host_.pool(),
                   .grant_network = record.grants.network,
                   .grant_expose_ports = record.grants.expose_ports,
                   .has_files = packages_.HasFiles(record.package_digest),
                   .package_dir = packages_.AppDirectory(record.package_digest).string(),
                   .project_dir = DirectoryOf(record.id).string(),
                   .run_dir = (options_.run / "projects" / record.id).string(),
                   .cgroup_parent = options_.cgroup,
                   .nameservers = options_.firewall.nameservers});
}

absl::StatusOr<std::shared_ptr<ProjectRuntime>> Supervisor::MakeRuntime(
    Entry& entry, const ProjectRecord& record) {
  VIBE_ASSIGN_OR_RETURN(Plan plan, PlanOf(record));
  const ProjectRuntime::Files files{
      .run_directory = options_.run / "projects" / record.id,
      .log_directory = options_.data / "logs" / record.id,
      .state_file = DirectoryOf(record.id) / "current" / kRuntime / "service-state.json",
      .restored_mark = DirectoryOf(record.id) / "current" / kRuntime / kRestoredMark,
      .exec_directory = options_.run / "exec"};
  auto runtime = std::make_shared<ProjectRuntime>(platform_, std::move(plan), files, keepers_,
                                                  [this, id = record.id] { Publish(id); });
  std::shared_ptr<ProjectRuntime> last;
  {
    absl::MutexLock lock(&entry.mutex);
    last = std::exchange(entry.runtime, runtime);
  }
  if (last != nullptr) {
    last->Close();
  }
  return runtime;
}

v1::Project Supervisor::View(const ProjectRecord& record) {
  const std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(record.id);
  const std::vector<ServiceState> states =
      runtime == nullptr ? std::vector<ServiceState>() : runtime->services();
  if (AnyActive(states)) {
    return ProjectView(record, &runtime->plan(), states);
  }
  // Nothing runs: the record may have changed since the last run, of which only the outcome is
  // told.
  const auto plan = PlanOf(record);
  if (!plan.ok()) {
    return ProjectView(record, nullptr, states);
  }
  return ProjectView(record, &*plan,
                     runtime == nullptr ? states : StatesOf(*plan, runtime->plan(), states));
}

void Supervisor::Publish(const std::string& id) {
  if (const auto record = store_->Get(id); record.ok()) {
    events_.Publish(View(*record));
  }
}

absl::StatusOr<v1::Project> Supervisor::GetProject(const std::string& id) {
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, Record(id));
  return View(record);
}

absl::StatusOr<std::vector<v1::Project>> Supervisor::ListProjects() {
  VIBE_ASSIGN_OR_RETURN(const std::vector<ProjectRecord> records, store_->List());
  std::vector<v1::Project> projects;
  for (const ProjectRecord& record : records) {
    projects.push_back(View(record));
  }
  return projects;
}

// ---- ensure and open ----

absl::Status Supervisor::CheckIdentity(const std::string& id, const std::string& name) {
  if (!IsProjectId(id) || !IsProjectName(name)) {
    return absl::InvalidArgumentError("a project needs a UUID and a name of [a-z0-9-]");
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Project> Supervisor::EnsureProject(const v1::EnsureProjectRequest& request,
                                                      const std::function<bool()>& cancelled) {
  VIBE_RETURN_IF_ERROR(CheckIdentity(request.id(), request.name()));
  ProjectRecord record;
  record.manifest_json = request.manifest_json();
  VIBE_ASSIGN_OR_RETURN(const manifest::Manifest manifest, ManifestOf(record));
  if (const auto known = store_->Get(request.id());
      known.ok() && known->app_version != manifest.version) {
    VIBE_RETURN_IF_ERROR(AwaitRecovered(request.id(), kRecoveryPatience));
  }
  const std::shared_ptr<Entry> entry = EntryOf(request.id());
  absl::MutexLock operation(&entry->operation);
  // What was under way may have taken long.
  if (cancelled()) {
    return absl::CancelledError("opening was cancelled");
  }
  if (EntryOf(request.id()) != entry) {
    return Error(absl::StatusCode::kAborted, Reason::kConflict,
                 absl::StrCat("project ", request.name(), " was removed just now"));
  }
  if (absl::IsNotFound(store_->Get(request.id()).status())) {
    VIBE_RETURN_IF_ERROR(CheckSpace());
  }
  if (!request.package_digest().empty()) {
    packages_.Pin(request.package_digest());  // until the record names it
    if (!packages_.Has(request.package_digest())) {
      packages_.Unpin(request.package_digest());
      return Error(absl::StatusCode::kFailedPrecondition, Reason::kInvalidPackage,
                   "the app's files are not in the machine");
    }
  }
  if (store_->Get(request.id()).ok()) {
    VIBE_ASSIGN_OR_RETURN(record, HeldRecord(request.id()));
  }
  const ProjectRecord replaced = record;
  const bool changed = record.manifest_json != request.manifest_json() ||
                       record.package_digest != request.package_digest();
  record.id = request.id();
  record.name = request.name();
  record.manifest_json = request.manifest_json();
  record.package_digest = request.package_digest();
  record.grants = ToGrants(request.grants());
  record.opened = record.opened && !changed;
  if (!record.app_id.empty() && record.app_id != manifest.id) {
    // What exists of the project is found by the app's id: it would be lost.
    return WithAdvice(Error(absl::StatusCode::kFailedPrecondition, Reason::kConflict,
                            absl::StrCat("project ", record.name, " is of the app ", record.app_id,
                                         ", not of ", manifest.id)),
                      "remove the project first, or open the app under another name");
  }
  if (!record.app_version.empty() && record.app_version != manifest.version) {
    VIBE_RETURN_IF_ERROR(SaveBeforeUpgrade(replaced, manifest.version));
  }
  record.app_id = manifest.id;
  record.app_version = manifest.version;
  VIBE_ASSIGN_OR_RETURN(record, store_->Put(record));
  packages_.Unpin(record.package_digest);
  VIBE_RETURN_IF_ERROR(ApplyGrants(record));
  if (replaced.package_digest != record.package_digest) {
    RemoveUnusedPackages();
  }
  VIBE_RETURN_IF_ERROR(StateOf(record.id).status());
  return View(record);
}

absl::Status Supervisor::EnsureImages(const ProjectRecord& record, const Plan& plan,
                                      const ProgressSink& progress,
                                      const std::function<bool()>& cancelled) {
  const std::filesystem::path carried = packages_.ImagesDirectory(record.package_digest);
  for (const PlannedService& service : plan.services) {
    const auto open_source =
        [&](const oci::Reference& reference) -> absl::StatusOr<std::unique_ptr<oci::ImageSource>> {
      if (!carried.empty()) {
        auto layout = oci::OpenLayout(carried, reference);
        if (layout.ok() || !absl::IsNotFound(layout.status())) {
          return layout;
        }
      }
      return oci::OpenRegistry(reference, options_.registry);
    };
    const auto report = [&](const images::PullProgress& pulled) -> absl::Status {
      v1::Progress event;
      event.set_phase(pulled.phase == images::PullProgress::Phase::kFetch
                          ? v1::Progress::PHASE_FETCH
                          : v1::Progress::PHASE_UNPACK);
      event.set_service(service.name);
      event.set_item(service.image);
      event.set_done(static_cast<uint64_t>(pulled.done));
      event.set_total(static_cast<uint64_t>(pulled.total));
      event.set_unit("bytes");
      progress(event);
      // Layers take their place compressed, and unpacked at least twice that.
      constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 3;
      const auto left =
          static_cast<uint64_t>(std::clamp<int64_t>(pulled.total - pulled.done, 0, kMost));
      const bool fetching = pulled.phase == images::PullProgress::Phase::kFetch;
      VIBE_RETURN_IF_ERROR(CheckSpace(left * (fetching ? 3 : 2)));
      return cancelled() ? absl::CancelledError("opening was cancelled") : absl::OkStatus();
    };
    absl::Status status =
        images_.EnsureImage(plan.containerd_namespace, service.image, open_source, report);
    if (!status.ok()) {
      status = Annotate(status, absl::StrCat("service ", service.name, ": image ", service.image));
      status = WithReason(std::move(status), Reason::kImagePullFailed);
      return WithService(std::move(status), service.name);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Project> Supervisor::OpenProject(const std::string& id,
                                                    const ProgressSink& progress,
                                                    const std::function<bool()>& cancelled) {
  VIBE_RETURN_IF_ERROR(Record(id).status());  // before an entry is made for it
  const std::shared_ptr<Entry> entry = EntryOf(id);
  absl::MutexLock operation(&entry->operation);
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, Record(id));
  VIBE_RETURN_IF_ERROR(CheckSpace());
  VIBE_ASSIGN_OR_RETURN(const Plan plan, PlanOf(record));
  absl::Status status =
      containerd_.CreateNamespace(plan.containerd_namespace, {{"vibe.app/project", record.id}});
  if (status.ok()) {
    status = EnsureImages(record, plan, progress, cancelled);
  }
  if (status.ok()) {
    status = store_->SetOpened(id, true);
  }
  VIBE_RETURN_IF_ERROR(WithFreeSpace(std::move(status), options_.data));
  return GetProject(id);
}

// ---- start and stop ----

absl::Status Supervisor::CheckSecrets(const ProjectRecord& record,
                                      const std::map<std::string, std::string>& secrets) const {
  VIBE_ASSIGN_OR_RETURN(const manifest::Manifest manifest, ManifestOf(record));
  for (const manifest::Secret& secret : manifest.secrets) {
    if (secret.required && secrets.find(secret.name) == secrets.end()) {
      return WithAdvice(Error(absl::StatusCode::kFailedPrecondition, Reason::kMissingSecret,
                              absl::StrCat("the secret ", secret.name, " is not set")),
                        secret.how_to_obtain);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Project> Supervisor::StartProject(
    const std::string& id, const std::map<std::string, std::string>& secrets,
    const ProgressSink& progress, const std::function<bool()>& cancelled) {
  VIBE_RETURN_IF_ERROR(Record(id).status());
  const std::shared_ptr<Entry> entry = EntryOf(id);
  absl::MutexLock operation(&entry->operation);
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, HeldRecord(id));
  if (!record.opened) {
    return WithAdvice(Error(absl::StatusCode::kFailedPrecondition, Reason::kNotOpen,
                            absl::StrCat("project ", record.name,
                                         " is not open: its images are "
                                         "not all here")),
                      "open it again with `vibe open`");
  }
  if (!AnyRuns(RuntimeOf(id).get())) {
    VIBE_RETURN_IF_ERROR(CheckSpace());
  }
  VIBE_RETURN_IF_ERROR(StartLocked(*entry, record, secrets, progress, cancelled));
  return GetProject(id);
}

absl::Status Supervisor::StartLocked(Entry& entry, const ProjectRecord& record,
                                     const std::map<std::string, std::string>& secrets,
                                     const ProgressSink& progress,
                                     const std::function<bool()>& cancelled) {
  const std::string& id = record.id;
  VIBE_RETURN_IF_ERROR(CheckSecrets(record, secrets));
  VIBE_RETURN_IF_ERROR(host_.SettlePool());
  VIBE_RETURN_IF_ERROR(StateOf(id).status());
  std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(id);
  const bool runs = runtime != nullptr && AnyActive(runtime->services());
  if (!runs) {
    // The manifest or the grants may have changed since the last run.
    VIBE_ASSIGN_OR_RETURN(runtime, MakeRuntime(entry, record));
  }
  const absl::Time begun = absl::Now();
  VIBE_ASSIGN_OR_RETURN(const Plan granted, PlanOf(record));
  firewall_.Set(id, runtime->plan(), granted.internet);
  runtime->SetExposePorts(granted.expose_ports);
  // Services may not run before the firewall knows them, but they can be made meanwhile.
  const ProjectRuntime::Guard guard =
      std::async(std::launch::async, [this] { return firewall_.Apply(); }).share();
  absl::Status status = store_->SetWantRunning(id, true);
  if (status.ok()) {
    status = WithFreeSpace(runtime->Start(secrets, guard, progress, cancelled), options_.data);
  }
  spdlog::debug("start of {}: {:.1f} ms, {}", record.name,
                absl::ToDoubleMilliseconds(absl::Now() - begun), status.ok() ? "ok" : "failed");
  if (!status.ok()) {
    status.Update(store_->SetWantRunning(id, false));
    status.Update(ForgetFirewall(id));
  }
  return status;
}

absl::StatusOr<v1::Project> Supervisor::StopProject(const std::string& id, absl::Duration timeout,
                                                    const ProgressSink& progress) {
  VIBE_RETURN_IF_ERROR(Record(id).status());
  const std::shared_ptr<Entry> entry = EntryOf(id);
  ++entry->stops;
  absl::MutexLock operation(&entry->operation);
  --entry->stops;
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, Record(id));
  const absl::Status stopped = working_room_.Use([&]() -> absl::Status {
    VIBE_RETURN_IF_ERROR(store_->SetWantRunning(id, false));
    std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(id);
    if (runtime == nullptr) {
      VIBE_ASSIGN_OR_RETURN(runtime, MakeRuntime(*entry, record));
    }
    VIBE_RETURN_IF_ERROR(runtime->Stop(timeout, progress));
    return ForgetFirewall(id);
  });
  VIBE_RETURN_IF_ERROR(stopped);
  RemoveUnusedPackages();  // of what ran until now, when the project has newer files
  return GetProject(id);
}

absl::Status Supervisor::DeleteProject(const std::string& id, bool delete_data) {
  const std::shared_ptr<Entry> entry = EntryOf(id);
  ++entry->stops;
  absl::MutexLock operation(&entry->operation);
  --entry->stops;
  const auto record = store_->Get(id);
  if (record.ok()) {
    VIBE_RETURN_IF_ERROR(
        working_room_.Use([&] { return DeleteLocked(*entry, *record, delete_data); }));
    RemoveUnusedPackages();
  } else if (!absl::IsNotFound(record.status())) {
    return record.status();
  } else if (delete_data && IsProjectId(id)) {  // it may have been kept when the project went
    VIBE_RETURN_IF_ERROR(working_room_.Use([&] { return DestroyProjectState(DirectoryOf(id)); }));
  }
  absl::MutexLock lock(&mutex_);
  entries_.erase(id);
  return absl::OkStatus();
}

absl::Status Supervisor::DeleteLocked(Entry& entry, const ProjectRecord& record, bool delete_data) {
  const std::string& id = record.id;
  VIBE_RETURN_IF_ERROR(store_->SetWantRunning(id, false));
  std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(id);
  const std::string ns = NamespaceName(record.app_id, record.id);
  if (runtime == nullptr) {
    // A manifest that this version cannot read must not keep the project from being removed.
    if (auto made = MakeRuntime(entry, record); made.ok()) {
      runtime = *std::move(made);
    }
  }
  if (runtime != nullptr) {
    VIBE_RETURN_IF_ERROR(runtime->Stop(absl::Seconds(30), [](const v1::Progress&) {}));
  }
  completion_->Forget(id);  // a dump has a container in the namespace
  VIBE_RETURN_IF_ERROR(images_.RemoveNamespace(ns));
  VIBE_RETURN_IF_ERROR(ForgetFirewall(id));
  {
    absl::MutexLock lock(&entry.mutex);
    entry.runtime.reset();
  }
  if (runtime != nullptr) {
    runtime->Close();  // it writes the state file: that must be over before the folder goes
  }
  {
    absl::MutexLock lock(&entry.state_mutex);
    entry.snapshots.reset();
  }
  runtime.reset();
  VIBE_RETURN_IF_ERROR(RemoveAll(options_.data / "logs" / id));
  if (delete_data) {
    VIBE_RETURN_IF_ERROR(DestroyProjectState(DirectoryOf(id)));
  }
  // The record goes last: until then a crash leaves a project that can be deleted again.
  return store_->Delete(id);
}

void Supervisor::RemoveUnusedPackages() {
  const auto records = store_->List();
  if (!records.ok()) {
    return;  // the next change of a project tries again
  }
  std::vector<std::string> unused;
  for (const std::string& digest : packages_.List()) {
    if (std::none_of(records->begin(), records->end(), [&](const ProjectRecord& record) {
          return record.package_digest == digest;
        })) {
      unused.push_back(digest);
    }
  }
  // A service that runs may have an older package mounted than its project's record says.
  for (const ProjectRecord& record : *records) {
    if (unused.empty()) {
      return;
    }
    const auto containers = containerd_.ListContainers(NamespaceName(record.app_id, record.id));
    if (!containers.ok()) {
      return;
    }
    for (const containerd::Container& container : *containers) {
      unused.erase(std::remove_if(unused.begin(), unused.end(),
                                  [&](const std::string& digest) {
                                    return absl::StrContains(
                                        container.spec_json,
                                        packages_.AppDirectory(digest).string());
                                  }),
                   unused.end());
    }
  }
  for (const std::string& digest : unused) {
    // Between the list and here a project may have come that uses it; it pinned the package first.
    if (const auto used = store_->PackageInUse(digest); used.ok() && !*used) {
      packages_.Remove(digest).IgnoreError();
    }
  }
}

}  // namespace vibe::supervisor
