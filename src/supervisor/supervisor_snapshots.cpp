// Saving the state of projects, and what is known of their snapshots. What happens on the disk, and
// how it survives crashes, is in src/state; here is what services have to do with it.
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "base/status.h"
#include "base/utf8.h"
#include "spdlog/spdlog.h"
#include "supervisor/full_disk.h"
#include "supervisor/postgres.h"
#include "supervisor/settle.h"
#include "supervisor/snapshot_call.h"
#include "supervisor/snapshot_view.h"
#include "supervisor/supervisor.h"

namespace vibe::supervisor {
namespace {

constexpr absl::Duration kCheckpointLimit = absl::Seconds(30);
constexpr size_t kMaxHookWarning = 1000;

// With it a clone has little to recover; without it the snapshot is as good.
void CheckpointPostgres(ProjectRuntime& runtime,
                        const std::map<std::string, state::Consistency>& volumes) {
  const std::vector<ServiceState> states = runtime.services();
  for (const auto& [name, kind] : volumes) {
    const VolumeUser user = FindVolumeUser(runtime.plan(), name);
    if (kind != state::Consistency::kPostgres || user.service == nullptr ||
        !MayRun(states[user.service - runtime.plan().services.data()])) {
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
  VIBE_RETURN_IF_ERROR(ForgetVersionsBut(id, *store));
  for (const std::string& snapshot_id : report.incomplete) {
    completion_->Add(id, snapshot_id);
  }
  entry->snapshots = store;
  return store;
}

const AppVersion* Supervisor::FindVersion(const std::map<std::string, AppVersion>& versions,
                                          const ProjectRecord& record,
                                          const state::SnapshotMetadata& snapshot) {
  if (const auto own = versions.find(snapshot.snapshot_id); own != versions.end()) {
    return &own->second;
  }
  if (snapshot.app_version != record.app_version) {
    for (const auto& [of, version] : versions) {
      if (version.app_version == snapshot.app_version) {
        return &version;
      }
    }
  }
  return nullptr;
}

// A version is kept from before its snapshot until after it: a crash may have come in between.
absl::Status Supervisor::ForgetVersionsBut(const std::string& id, state::SnapshotStore& store) {
  VIBE_ASSIGN_OR_RETURN(const auto versions, store_->KeptVersions(id));
  if (versions.empty()) {
    return absl::OkStatus();
  }
  VIBE_ASSIGN_OR_RETURN(const std::vector<state::ListedSnapshot> listed, store.List());
  for (const auto& [snapshot_id, version] : versions) {
    if (std::none_of(listed.begin(), listed.end(), [&](const state::ListedSnapshot& snapshot) {
          return snapshot.metadata.snapshot_id == snapshot_id;
        })) {
      ForgetVersion(id, snapshot_id);
    }
  }
  return absl::OkStatus();
}

// ---- save

// Dependents first, as in a stop: what they still hand to another service is there when that one's
// turn comes.
absl::StatusOr<Supervisor::PreSave> Supervisor::RunPreSaveHooks(const ProjectRecord& record,
                                                                ProjectRuntime* runtime,
                                                                const SaveCall& call,
                                                                const ProgressSink& progress) {
  PreSave done;
  Plan planned;
  if (runtime == nullptr) {
    VIBE_ASSIGN_OR_RETURN(planned, PlanOf(record));
  }
  const Plan& plan = runtime == nullptr ? planned : runtime->plan();
  const std::vector<ServiceState> states =
      runtime == nullptr ? std::vector<ServiceState>(plan.services.size()) : runtime->services();
  const absl::Time begun = absl::Now();
  for (size_t index = plan.services.size(); index-- > 0;) {
    const PlannedService& service = plan.services[index];
    if (!service.hooks.pre_save) {
      continue;
    }
    const std::string hook = absl::StrCat("the preSave hook of service ", service.name);
    if (call.skip_hooks) {
      done.warnings.push_back(absl::StrCat(hook, " was not run, as was asked for"));
      continue;
    }
    if (states[index].status != v1::STATUS_RUNNING) {
      done.warnings.push_back(absl::StrCat(hook, " was not run: the service does not run"));
      continue;
    }
    v1::Progress event = SnapshotEvent(v1::Progress::PHASE_HOOK, HookName(HookKind::kPreSave));
    event.set_service(service.name);
    progress(event);
    const absl::Duration left = kPreSaveLimit - (absl::Now() - begun);
    const absl::Status status = runtime->RunHook(
        index, HookKind::kPreSave, std::max(left, absl::Milliseconds(1)), call.cancelled);
    if (absl::IsCancelled(status)) {
      return status;
    }
    if (status.ok()) {
      continue;
    }
    if (call.hooks_must_pass) {
      return WithAdvice(status, call.hook_advice);
    }
    spdlog::warn("{}: {}", record.name, status.ToString());
    done.warnings.push_back(ValidUtf8(status.message().substr(0, kMaxHookWarning)));
  }
  done.took = absl::Now() - begun;
  return done;
}

absl::StatusOr<state::SnapshotMetadata> Supervisor::Save(const ProjectRecord& record, SaveCall call,
                                                         const ProgressSink& progress) {
  VIBE_ASSIGN_OR_RETURN(const auto store, StateOf(record.id));
  VIBE_ASSIGN_OR_RETURN(const manifest::Manifest manifest, ManifestOf(record));
  VIBE_RETURN_IF_ERROR(CheckSpace());
  state::SaveRequest& request = call.request;
  request.app_version = record.app_version;
  request.volumes = VolumesOf(manifest);
  VIBE_RETURN_IF_ERROR(store->CheckRequest(request));  // before any hook runs for it
  progress(SnapshotEvent(v1::Progress::PHASE_SAVE, state::SnapshotReasonName(request.reason)));
  const auto not_saved = [&](const absl::Status& why) {
    return WithReason(Annotate(why, absl::StrCat("project ", record.name, " was not saved")),
                      Reason::kSaveFailed);
  };
  const std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(record.id);
  absl::StatusOr<PreSave> hooks = RunPreSaveHooks(record, runtime.get(), call, progress);
  if (!hooks.ok()) {
    return not_saved(hooks.status());
  }
  request.pre_save = hooks->took;
  request.warnings = std::move(hooks->warnings);
  request.hooks = QuiesceFor(runtime.get(), request.volumes);
  if (runtime != nullptr) {
    CheckpointPostgres(*runtime, request.volumes);
  }
  SettleSqlite(DirectoryOf(record.id) / "current" / "volumes", request.volumes);
  const std::shared_ptr<Entry> entry = EntryOf(record.id);
  // Whoever lists the snapshots sees the new one when the old one that gives way to it is gone.
  absl::WriterMutexLock listing(&entry->listing);
  if (call.keep_version) {  // before the snapshot: no crash leaves one that nobody can go back to
    request.snapshot_id = RandomUuid();
    VIBE_RETURN_IF_ERROR(store_->KeepVersion(record.id, request.snapshot_id, VersionOf(record)));
  }
  absl::StatusOr<state::SnapshotMetadata> saved = Patiently([&] { return store->Save(request); });
  if (!saved.ok()) {
    return WithFreeSpace(not_saved(saved.status()), options_.data);
  }
  spdlog::info("saved {} as {} ({}), pause {}, hooks {}", record.name, saved->snapshot_id,
               std::string(state::SnapshotReasonName(saved->reason)),
               absl::FormatDuration(saved->pause), absl::FormatDuration(saved->pre_save));
  completion_->Add(record.id, saved->snapshot_id);
  call.keep.push_back(saved->snapshot_id);
  const auto pruned = Patiently([&] {
    return store->Prune({.max_snapshots = static_cast<size_t>(manifest.state.max_snapshots)},
                        call.keep);
  });
  if (!pruned.ok()) {
    spdlog::warn("snapshots of {} are not pruned: {}", record.name, pruned.status().ToString());
  } else {
    for (const std::string& id : *pruned) {
      completion_->Forget(record.id, id);
      ForgetVersion(record.id, id);
    }
    if (!pruned->empty()) {
      RemoveUnusedPackages();  // of the versions that went with them
    }
  }
  return saved;
}

absl::StatusOr<v1::Snapshot> Supervisor::SaveSnapshot(const v1::SaveSnapshotRequest& request,
                                                      const ProgressSink& progress,
                                                      const std::function<bool()>& cancelled) {
  VIBE_RETURN_IF_ERROR(Record(request.id()).status());
  VIBE_RETURN_IF_ERROR(AwaitRecovered(request.id(), kRecoveryPatience));
  const std::shared_ptr<Entry> entry = EntryOf(request.id());
  absl::MutexLock operation(&entry->operation);
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, HeldRecord(request.id()));
  SaveCall call;
  call.request.message = request.message();
  call.request.labels = {request.labels().begin(), request.labels().end()};
  call.skip_hooks = request.skip_hooks();
  // Somebody is there to decide what to do about it.
  call.hooks_must_pass = true;
  call.hook_advice = absl::StrCat("mend the hook, or save without the hooks: `vibe save ",
                                  record.name, " --skip-hooks`");
  call.cancelled = cancelled;
  VIBE_ASSIGN_OR_RETURN(const state::SnapshotMetadata saved,
                        Save(record, std::move(call), progress));
  return SnapshotView({.metadata = saved, .problem = ""});
}

std::map<std::string, absl::StatusOr<std::filesystem::path>> Supervisor::DumpVolumes(
    const std::string& id, const std::string& snapshot_id, state::SnapshotStore& store,
    std::stop_token stop) {
  std::map<std::string, absl::StatusOr<std::filesystem::path>> dumps;
  const auto metadata = store.Get(snapshot_id);
  if (!metadata.ok() || metadata->complete) {
    return dumps;
  }
  absl::StatusOr<ProjectRecord> record = store_->Get(id);
  if (record.ok()) {
    // The version that took its place may have another Postgres, which cannot read these files.
    if (const auto versions = store_->KeptVersions(id); versions.ok()) {
      if (const AppVersion* kept = FindVersion(*versions, *record, *metadata)) {
        record = WithVersion(*std::move(record), *kept);
      }
    }
  }
  const auto plan = record.ok() ? PlanOf(*record) : absl::StatusOr<Plan>(record.status());
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
  const absl::Cleanup clear = [&request] {
    for (const auto& [volume, dump] : request.dumps) {
      if (dump.ok()) {
        ::unlink(dump->c_str());  // one that the snapshot took is not there any more
      }
    }
  };
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

// The version that is replaced is kept with the snapshot of its data: going back is a restore.
absl::Status Supervisor::SaveBeforeUpgrade(const ProjectRecord& replaced,
                                           const std::string& new_version) {
  SaveCall call;
  call.request.reason = state::SnapshotReason::kBeforeUpgrade;
  call.request.message = absl::StrCat("before version ", new_version);
  call.keep_version = true;
  call.cancelled = [this] { return Closing(); };
  const absl::Status saved = Save(replaced, std::move(call), [](const v1::Progress&) {}).status();
  return Annotate(
      saved, absl::StrCat("version ", new_version, " does not replace ", replaced.app_version));
}

// ---- list and delete

absl::StatusOr<std::vector<v1::Snapshot>> Supervisor::ListSnapshots(const std::string& id) {
  VIBE_RETURN_IF_ERROR(Record(id).status());
  VIBE_ASSIGN_OR_RETURN(const auto store, StateOf(id));
  const std::shared_ptr<Entry> entry = EntryOf(id);
  absl::ReaderMutexLock listing(&entry->listing);
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
  VIBE_RETURN_IF_ERROR(HeldRecord(id).status());
  VIBE_ASSIGN_OR_RETURN(const auto store, StateOf(id));
  // A dump of it may take hours yet, and would be in its way.
  completion_->Forget(id, snapshot_id);
  const absl::Status status =
      working_room_.Use([&] { return Patiently([&] { return store->Delete(snapshot_id); }); });
  if (status.ok()) {
    ForgetVersion(id, snapshot_id);
    RemoveUnusedPackages();
  } else {
    if (const auto stays = store->Get(snapshot_id); stays.ok() && !stays->complete) {
      completion_->Add(id, snapshot_id);
    }
  }
  return status;
}

}  // namespace vibe::supervisor
