// Saving, restoring and duplicating the state of projects. What happens on the disk, and how it
// survives crashes, is in src/state; here is what services have to do with it.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "spdlog/spdlog.h"
#include "state/subvolume.h"
#include "supervisor/full_disk.h"
#include "supervisor/postgres.h"
#include "supervisor/project_freezer.h"
#include "supervisor/project_state.h"
#include "supervisor/project_view.h"
#include "supervisor/settle.h"
#include "supervisor/snapshot_view.h"
#include "supervisor/supervisor.h"

namespace vibe::supervisor {
namespace {

// A service that does not stand still within this has the save fail, not hang.
constexpr absl::Duration kFreezeLimit = absl::Seconds(2);
constexpr absl::Duration kCheckpointLimit = absl::Seconds(30);
constexpr absl::Duration kStopLimit = absl::Seconds(30);
// The last step of completing a snapshot has the project's lock for a moment.
constexpr absl::Duration kLockPatience = absl::Seconds(10);
constexpr absl::Duration kLockPoll = absl::Milliseconds(20);
constexpr char kDuplicating[] = "duplicating";

v1::Progress Event(v1::Progress::Phase phase, absl::string_view item) {
  v1::Progress progress;
  progress.set_phase(phase);
  progress.set_item(std::string(item));
  return progress;
}

// Calls again while another step on the same project's snapshots is under way.
template <typename Call>
auto Patiently(const Call& call) {
  const absl::Time deadline = absl::Now() + kLockPatience;
  while (true) {
    auto result = call();
    absl::Status status;
    if constexpr (std::is_same_v<decltype(result), absl::Status>) {
      status = result;
    } else {
      status = result.status();
    }
    if (ReasonOf(status) != Reason::kSaveInProgress || absl::Now() >= deadline) {
      return result;
    }
    absl::SleepFor(kLockPoll);
  }
}

std::vector<std::string> RunningServices(const ProjectRuntime* runtime) {
  std::vector<std::string> names;
  if (runtime != nullptr) {
    const std::vector<ServiceState> states = runtime->services();
    for (size_t index = 0; index < states.size(); ++index) {
      if (states[index].status == v1::STATUS_RUNNING ||
          states[index].status == v1::STATUS_STARTING) {
        names.push_back(runtime->plan().services[index].name);
      }
    }
  }
  return names;
}

bool HasGeneric(const std::map<std::string, state::Consistency>& volumes) {
  return std::any_of(volumes.begin(), volumes.end(), [](const auto& volume) {
    return volume.second == state::Consistency::kGeneric;
  });
}

// Of volumes that know how to be cut off at any instant, nobody has to stand still for.
state::QuiesceHooks HooksFor(const ProjectRuntime* runtime,
                             const std::map<std::string, state::Consistency>& volumes) {
  if (RunningServices(runtime).empty() || !HasGeneric(volumes)) {
    return {};
  }
  const auto freezer = std::make_shared<ProjectFreezer>(runtime->plan());
  return {.quiesce = [freezer] { return freezer->Freeze(kFreezeLimit); },
          .thaw = [freezer] { freezer->Thaw(); }};
}

// With it a clone has little to recover; without it the snapshot is as good.
void CheckpointPostgres(ProjectRuntime& runtime,
                        const std::map<std::string, state::Consistency>& volumes) {
  const std::vector<std::string> running = RunningServices(&runtime);
  for (const auto& [name, kind] : volumes) {
    const VolumeUser user = FindVolumeUser(runtime.plan(), name);
    if (kind != state::Consistency::kPostgres || user.service == nullptr ||
        std::find(running.begin(), running.end(), user.service->name) == running.end()) {
      continue;
    }
    const auto code = runtime.Exec(user.service->name,
                                   {"psql", "-X", "-w", "-q", "-U", Superuser(*user.service), "-d",
                                    "template1", "-c", "CHECKPOINT"},
                                   kCheckpointLimit);
    if (!code.ok() || *code != 0) {
      spdlog::warn("no checkpoint of {} before its snapshot: {}", user.service->name,
                   code.ok() ? absl::StrCat("psql ended with ", *code) : code.status().ToString());
    }
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<state::SnapshotStore>> Supervisor::StateOf(const std::string& id) {
  const std::shared_ptr<Entry> entry = EntryOf(id);
  absl::MutexLock lock(&entry->state_mutex);
  if (entry->snapshots != nullptr) {
    return entry->snapshots;
  }
  VIBE_RETURN_IF_ERROR(MakeDirectories(DirectoryOf(id)));
  VIBE_ASSIGN_OR_RETURN(std::shared_ptr<state::SnapshotStore> store,
                        state::SnapshotStore::Open(DirectoryOf(id), id));
  VIBE_ASSIGN_OR_RETURN(const state::RecoveryReport report, store->Recover());
  for (const std::string& action : report.actions) {
    spdlog::info("state of {}: {}", id, action);
  }
  VIBE_RETURN_IF_ERROR(store->EnsureCurrent());
  for (const std::string& snapshot_id : report.incomplete) {
    completion_->Add(id, snapshot_id);
  }
  entry->snapshots = store;
  return store;
}

// ---- save

absl::StatusOr<state::SnapshotMetadata> Supervisor::Save(const ProjectRecord& record,
                                                         state::SaveRequest request,
                                                         const ProgressSink& progress,
                                                         std::vector<std::string> keep) {
  VIBE_ASSIGN_OR_RETURN(const auto store, StateOf(record.id));
  VIBE_ASSIGN_OR_RETURN(const manifest::Manifest manifest, ManifestOf(record));
  VIBE_RETURN_IF_ERROR(CheckSpace());
  progress(Event(v1::Progress::PHASE_SAVE, state::SnapshotReasonName(request.reason)));
  const std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(record.id);
  request.app_version = record.app_version;
  request.volumes = VolumesOf(manifest);
  request.hooks = HooksFor(runtime.get(), request.volumes);
  if (runtime != nullptr) {
    CheckpointPostgres(*runtime, request.volumes);
  }
  SettleSqlite(DirectoryOf(record.id) / "current" / "volumes", request.volumes);
  absl::StatusOr<state::SnapshotMetadata> saved = Patiently([&] { return store->Save(request); });
  if (!saved.ok()) {
    return WithFreeSpace(WithReason(Annotate(saved.status(), absl::StrCat("project ", record.name,
                                                                          " was not saved")),
                                    Reason::kSaveFailed),
                         options_.data);
  }
  spdlog::info("saved {} as {} ({}), pause {}", record.name, saved->snapshot_id,
               std::string(state::SnapshotReasonName(saved->reason)),
               absl::FormatDuration(saved->pause));
  completion_->Add(record.id, saved->snapshot_id);
  keep.push_back(saved->snapshot_id);
  const auto pruned =
      store->Prune({.max_snapshots = static_cast<size_t>(manifest.state.max_snapshots)}, keep);
  if (!pruned.ok() && ReasonOf(pruned.status()) != Reason::kSaveInProgress) {
    spdlog::warn("snapshots of {} are not pruned: {}", record.name, pruned.status().ToString());
  }
  return saved;
}

absl::StatusOr<v1::Snapshot> Supervisor::SaveSnapshot(const v1::SaveSnapshotRequest& request,
                                                      const ProgressSink& progress) {
  VIBE_RETURN_IF_ERROR(Record(request.id()).status());
  const std::shared_ptr<Entry> entry = EntryOf(request.id());
  absl::MutexLock operation(&entry->operation);
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, Record(request.id()));
  state::SaveRequest save;
  save.message = request.message();
  save.labels = {request.labels().begin(), request.labels().end()};
  VIBE_ASSIGN_OR_RETURN(const state::SnapshotMetadata saved,
                        Save(record, std::move(save), progress));
  return SnapshotView({.metadata = saved, .problem = ""});
}

std::map<std::string, absl::StatusOr<std::filesystem::path>> Supervisor::DumpVolumes(
    const std::string& id, const std::string& snapshot_id, state::SnapshotStore& store,
    std::stop_token stop) {
  std::map<std::string, absl::StatusOr<std::filesystem::path>> dumps;
  const auto metadata = store.Get(snapshot_id);
  const auto record = store_->Get(id);
  const auto plan = record.ok() ? PlanOf(*record) : absl::StatusOr<Plan>(record.status());
  if (!metadata.ok() || metadata->complete) {
    return dumps;
  }
  for (const auto& [name, volume] : metadata->volumes) {
    if (volume.consistency != state::Consistency::kPostgres || stop.stop_requested()) {
      continue;
    }
    dumps.emplace(name, plan.ok() ? DumpPostgres(platform_, *plan, FindVolumeUser(*plan, name),
                                                 store, snapshot_id, name, stop)
                                  : absl::StatusOr<std::filesystem::path>(plan.status()));
    if (const absl::Status status = dumps.at(name).status(); !status.ok()) {
      spdlog::warn("snapshot {} of {}: no dump of {}: {}", snapshot_id, id, name,
                   status.ToString());
    }
  }
  return dumps;
}

void Supervisor::CompleteSnapshot(const std::string& id, const std::string& snapshot_id,
                                  std::stop_token stop) {
  const auto store = StateOf(id);
  if (!store.ok()) {
    return;
  }
  state::CompleteRequest request;
  request.stop = stop;
  request.dumps = DumpVolumes(id, snapshot_id, **store, stop);
  if (stop.stop_requested()) {
    return;  // a dump that was broken off says nothing about the snapshot
  }
  const auto done = Patiently([&] { return (*store)->Complete(snapshot_id, request); });
  if (!done.ok() && !stop.stop_requested() && !absl::IsNotFound(done.status())) {
    spdlog::warn("snapshot {} of {} stays incomplete: {}", snapshot_id, id,
                 done.status().ToString());
  }
}

// The snapshot has the version that is replaced: going back is a restore, and the app's older
// files.
absl::Status Supervisor::SaveBeforeUpgrade(const std::string& id, const std::string& new_version) {
  const auto known = store_->Get(id);
  if (!known.ok() || known->app_version == new_version) {
    return absl::OkStatus();
  }
  const std::shared_ptr<Entry> entry = EntryOf(id);
  absl::MutexLock operation(&entry->operation);
  state::SaveRequest save;
  save.reason = state::SnapshotReason::kBeforeUpgrade;
  save.message = absl::StrCat("before version ", new_version);
  return Annotate(Save(*known, std::move(save), [](const v1::Progress&) {}).status(),
                  absl::StrCat("version ", new_version, " does not replace ", known->app_version));
}

// ---- list and delete

absl::StatusOr<std::vector<v1::Snapshot>> Supervisor::ListSnapshots(const std::string& id) {
  VIBE_RETURN_IF_ERROR(Record(id).status());
  VIBE_ASSIGN_OR_RETURN(const auto store, StateOf(id));
  VIBE_ASSIGN_OR_RETURN(const std::vector<state::ListedSnapshot> listed, store->List());
  std::vector<v1::Snapshot> snapshots;
  snapshots.reserve(listed.size());
  for (const state::ListedSnapshot& snapshot : listed) {
    snapshots.push_back(SnapshotView(snapshot));
  }
  return snapshots;
}

absl::Status Supervisor::DeleteSnapshot(const std::string& id, const std::string& snapshot_id) {
  VIBE_RETURN_IF_ERROR(Record(id).status());
  const std::shared_ptr<Entry> entry = EntryOf(id);
  absl::MutexLock operation(&entry->operation);
  VIBE_RETURN_IF_ERROR(Record(id).status());
  VIBE_ASSIGN_OR_RETURN(const auto store, StateOf(id));
  return Patiently([&] { return store->Delete(snapshot_id); });
}

// ---- restore

std::function<absl::Status(const std::filesystem::path&)> Supervisor::PrepareFor(
    const ProjectRecord& record, const manifest::Manifest& manifest, const std::string& snapshot_id,
    state::SnapshotStore& store) {
  return [this, record, volumes = VolumesOf(manifest), snapshot_id,
          &store](const std::filesystem::path& clone) -> absl::Status {
    VIBE_ASSIGN_OR_RETURN(const Plan plan, PlanOf(record));
    for (const auto& [name, kind] : volumes) {
      if (kind == state::Consistency::kPostgres) {
        VIBE_RETURN_IF_ERROR(MatchPostgresVersion(platform_, plan, FindVolumeUser(plan, name),
                                                  clone, name, store.DumpPath(snapshot_id, name),
                                                  {}));
      }
    }
    return absl::OkStatus();
  };
}

absl::StatusOr<Supervisor::Restored> Supervisor::RestoreSnapshot(
    const v1::RestoreSnapshotRequest& request, const ProgressSink& progress,
    const std::function<bool()>& cancelled) {
  const std::string& id = request.id();
  VIBE_RETURN_IF_ERROR(Record(id).status());
  const std::shared_ptr<Entry> entry = EntryOf(id);
  absl::MutexLock operation(&entry->operation);
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, Record(id));
  VIBE_ASSIGN_OR_RETURN(const auto store, StateOf(id));
  VIBE_ASSIGN_OR_RETURN(const manifest::Manifest manifest, ManifestOf(record));
  // What cannot be restored is known before anything is stopped.
  VIBE_RETURN_IF_ERROR(store->Get(request.snapshot_id()).status());
  std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(id);
  const bool ran = !RunningServices(runtime.get()).empty();
  Restored restored;
  if (!request.skip_safety_snapshot()) {
    state::SaveRequest save;
    save.reason = state::SnapshotReason::kBeforeRestore;
    save.message = absl::StrCat("before the restore of ", request.snapshot_id());
    VIBE_ASSIGN_OR_RETURN(const state::SnapshotMetadata safety,
                          Save(record, std::move(save), progress, {request.snapshot_id()}));
    restored.safety_snapshot_id = safety.snapshot_id;
  }
  if (runtime != nullptr) {
    VIBE_RETURN_IF_ERROR(runtime->Stop(kStopLimit, progress));
  }
  const absl::Status swapped = [&]() -> absl::Status {
    if (cancelled()) {
      return absl::CancelledError("the restore was cancelled");
    }
    progress(Event(v1::Progress::PHASE_RESTORE, request.snapshot_id()));
    state::RestoreRequest restore;
    restore.snapshot_id = request.snapshot_id();
    restore.verify = request.verify();
    restore.prepare = PrepareFor(record, manifest, request.snapshot_id(), *store);
    return Patiently([&] { return store->Restore(restore); });
  }();
  absl::Status started;
  if (ran) {
    // A user who breaks off before the swap has the app run on; after it, a start that hangs has to
    // give way to a stop.
    started =
        StartLocked(*entry, record, {}, progress, [&] { return swapped.ok() && cancelled(); });
  }
  if (!swapped.ok()) {
    if (!started.ok()) {
      spdlog::error("{} does not start again after a restore that failed: {}", record.name,
                    started.ToString());
    }
    return WithFreeSpace(
        WithReason(Annotate(swapped, absl::StrCat("the state of ", record.name, " is as it was")),
                   Reason::kRestoreFailed),
        options_.data);
  }
  if (!started.ok()) {
    started =
        Annotate(started, absl::StrCat("snapshot ", request.snapshot_id(), " is restored, but ",
                                       record.name, " does not start with it"));
    return restored.safety_snapshot_id.empty()
               ? started
               : WithAdvice(started, absl::StrCat("go back with `vibe restore ", record.name, " ",
                                                  restored.safety_snapshot_id, " --no-safety`"));
  }
  VIBE_ASSIGN_OR_RETURN(restored.project, GetProject(id));
  return restored;
}

// ---- duplicate

// Before the copy there is a mark, and the record comes last: a mark without a record is a copy
// that nobody knows of.
absl::StatusOr<v1::Project> Supervisor::DuplicateProject(const v1::DuplicateProjectRequest& request,
                                                         const ProgressSink& progress) {
  VIBE_RETURN_IF_ERROR(CheckIdentity(request.new_id(), request.new_name()));
  VIBE_RETURN_IF_ERROR(Record(request.id()).status());
  const std::shared_ptr<Entry> entry = EntryOf(request.id());
  absl::MutexLock operation(&entry->operation);
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord source, Record(request.id()));
  VIBE_ASSIGN_OR_RETURN(const auto store, StateOf(request.id()));
  if (store_->Get(request.new_id()).ok() || store_->GetByName(request.new_name()).ok()) {
    return Error(absl::StatusCode::kAlreadyExists, Reason::kConflict,
                 absl::StrCat("there is a project ", request.new_name(), " already"));
  }
  VIBE_RETURN_IF_ERROR(CheckSpace());
  VIBE_ASSIGN_OR_RETURN(const manifest::Manifest manifest, ManifestOf(source));
  progress(Event(v1::Progress::PHASE_COPY, request.new_name()));
  const std::filesystem::path mark = options_.data / kDuplicating / request.new_id();
  VIBE_RETURN_IF_ERROR(MakeDirectories(mark.parent_path()));
  VIBE_RETURN_IF_ERROR(ReplaceFile(mark, "", 0600));
  state::DuplicateRequest duplicate;
  duplicate.snapshot_id = request.snapshot_id();
  duplicate.target = DirectoryOf(request.new_id());
  duplicate.target_project_id = request.new_id();
  const std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(source.id);
  if (!request.snapshot_id().empty()) {
    duplicate.prepare = PrepareFor(source, manifest, request.snapshot_id(), *store);
  }
  duplicate.hooks = HooksFor(runtime.get(), VolumesOf(manifest));
  absl::Status status = Patiently([&] { return store->Duplicate(duplicate); });
  if (status.ok()) {
    ProjectRecord copy;
    copy.id = request.new_id();
    copy.name = request.new_name();
    copy.app_id = source.app_id;
    copy.app_version = source.app_version;
    copy.manifest_json = source.manifest_json;
    copy.package_digest = source.package_digest;
    status = store_->Put(copy).status();
  }
  if (!status.ok()) {
    DestroyProjectState(duplicate.target).IgnoreError();
  }
  ::unlink(mark.c_str());
  if (!status.ok()) {
    return WithFreeSpace(
        WithReason(Annotate(status, absl::StrCat("project ", source.name, " was not duplicated")),
                   Reason::kDuplicateFailed),
        options_.data);
  }
  VIBE_RETURN_IF_ERROR(StateOf(request.new_id()).status());
  return GetProject(request.new_id());
}

void Supervisor::ForgetBrokenDuplicates() {
  std::error_code error;
  for (const auto& mark :
       std::filesystem::directory_iterator(options_.data / kDuplicating, error)) {
    const std::string id = mark.path().filename();
    if (absl::IsNotFound(store_->Get(id).status())) {
      if (const absl::Status status = DestroyProjectState(DirectoryOf(id)); !status.ok()) {
        spdlog::warn("what an interrupted duplicate left stays: {}", status.ToString());
        continue;
      }
      spdlog::info("removed what an interrupted duplicate left: {}", id);
    }
    ::unlink(mark.path().c_str());
  }
}

}  // namespace vibe::supervisor
