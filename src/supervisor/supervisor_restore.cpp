// Putting a snapshot in the place of a project's state, and making another project of one. What
// happens on the disk, and how it survives crashes, is in src/state.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "spdlog/spdlog.h"
#include "state/subvolume.h"
#include "supervisor/full_disk.h"
#include "supervisor/postgres.h"
#include "supervisor/project_state.h"
#include "supervisor/snapshot_call.h"
#include "supervisor/snapshot_view.h"
#include "supervisor/supervisor.h"

namespace vibe::supervisor {
namespace {

constexpr absl::Duration kStopLimit = absl::Seconds(30);
constexpr char kDuplicating[] = "duplicating";

std::vector<std::string> SecretNames(const manifest::Manifest& manifest) {
  std::vector<std::string> names;
  for (const manifest::Secret& secret : manifest.secrets) {
    names.push_back(secret.name);
  }
  return names;
}

bool IsOtherVersion(const ProjectRecord& a, const ProjectRecord& b) {
  return a.manifest_json != b.manifest_json || a.package_digest != b.package_digest;
}

bool HasPostRestore(const manifest::Manifest& manifest) {
  return std::any_of(manifest.services.begin(), manifest.services.end(),
                     [](const auto& service) { return service.hooks.post_restore.has_value(); });
}

// With it the services' postRestore hooks run after the next start. It is in the clone before that
// becomes the state, so that no crash comes between the two.
absl::Status MarkRestored(const std::filesystem::path& clone, const manifest::Manifest& manifest,
                          bool skip_hooks) {
  const std::filesystem::path mark = clone / kRuntime / kRestoredMark;
  if (!skip_hooks && HasPostRestore(manifest)) {
    VIBE_RETURN_IF_ERROR(MakeDirectories(mark.parent_path()));
    return ReplaceFile(mark, "", 0600);
  }
  return RemoveAll(mark);  // the snapshot may be of a state whose hooks had not run
}

// It becomes the state in the same step as the data: no crash leaves the one without the other.
absl::Status MarkVersion(const std::filesystem::path& clone, const std::string& snapshot_id) {
  const std::filesystem::path mark = clone / kRuntime / kVersionMark;
  if (snapshot_id.empty()) {
    return RemoveAll(mark);
  }
  VIBE_RETURN_IF_ERROR(MakeDirectories(mark.parent_path()));
  return ReplaceFile(mark, snapshot_id, 0600);
}

// Data that is there and not seen, and data that was there and is not: a user takes both for a
// loss.
std::vector<std::string> VolumeWarnings(const state::SnapshotMetadata& snapshot,
                                        const ProjectRecord& target,
                                        const manifest::Manifest& manifest) {
  const std::map<std::string, state::Consistency> volumes = VolumesOf(manifest);
  std::vector<std::string> warnings;
  for (const auto& [name, volume] : snapshot.volumes) {
    const bool empty = snapshot.complete && volume.digest.empty();
    if (volumes.count(name) == 0 && !empty) {
      warnings.push_back(absl::StrCat("version ", target.app_version,
                                      " of the app does not use the snapshot's volume ", name));
    }
  }
  for (const auto& [name, kind] : volumes) {
    if (snapshot.volumes.count(name) == 0) {
      warnings.push_back(
          absl::StrCat("the snapshot does not have the volume ", name, ": it is empty now"));
    }
  }
  return warnings;
}

}  // namespace

std::function<absl::Status(const std::filesystem::path&)> Supervisor::PrepareFor(
    const CloneUse& use, const manifest::Manifest& manifest, state::SnapshotStore& store) {
  return [this, use, manifest, &store](const std::filesystem::path& clone) -> absl::Status {
    const std::string& snapshot_id = use.snapshot_id;
    VIBE_ASSIGN_OR_RETURN(const Plan plan, PlanOf(use.record));
    for (const auto& [name, kind] : VolumesOf(manifest)) {
      // The live state is of the version that runs.
      if (kind == state::Consistency::kPostgres && !snapshot_id.empty()) {
        VIBE_RETURN_IF_ERROR(MatchPostgresVersion(platform_, plan, FindVolumeUser(plan, name),
                                                  clone, name, store.DumpPath(snapshot_id, name),
                                                  {}));
      }
    }
    VIBE_RETURN_IF_ERROR(MarkVersion(clone, use.brings_version ? snapshot_id : ""));
    return MarkRestored(clone, manifest, use.skip_hooks);
  };
}

absl::StatusOr<ProjectRecord> Supervisor::RecordFor(const ProjectRecord& record,
                                                    const state::SnapshotMetadata& snapshot) {
  VIBE_ASSIGN_OR_RETURN(const auto versions, store_->KeptVersions(record.id));
  const bool before_upgrade = snapshot.reason == state::SnapshotReason::kBeforeUpgrade;
  const bool own = versions.find(snapshot.snapshot_id) != versions.end();
  if (!own && (!before_upgrade || snapshot.app_version == record.app_version)) {
    return record;
  }
  const AppVersion* kept = FindVersion(versions, record, snapshot);
  // The newer version must not run on what the older one left, as if nobody had wanted to go back.
  if (kept == nullptr || (!kept->package_digest.empty() && !packages_.Has(kept->package_digest))) {
    return WithAdvice(
        Error(absl::StatusCode::kFailedPrecondition, Reason::kRestoreFailed,
              absl::StrCat("snapshot ", snapshot.snapshot_id, " is of version ",
                           snapshot.app_version, ", which is not in the machine any more")),
        absl::StrCat("open version ", snapshot.app_version, " of the app with `vibe open FOLDER",
                     " --name ", record.name, "`, and try again"));
  }
  if (!own) {  // that of another snapshot
    VIBE_RETURN_IF_ERROR(store_->KeepVersion(record.id, snapshot.snapshot_id, *kept));
  }
  return WithVersion(record, *kept);
}

absl::StatusOr<ProjectRecord> Supervisor::HeldRecord(const std::string& id) {
  VIBE_RETURN_IF_ERROR(FollowState(id));
  return Record(id);
}

absl::Status Supervisor::FollowState(const std::string& id) {
  const std::filesystem::path mark = DirectoryOf(id) / "current" / kRuntime / kVersionMark;
  constexpr uint64_t kMaxMark = 64;
  const absl::StatusOr<std::string> snapshot_id = ReadFile(mark, kMaxMark);
  if (!snapshot_id.ok()) {
    return absl::IsNotFound(snapshot_id.status()) ? absl::OkStatus() : snapshot_id.status();
  }
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, Record(id));
  VIBE_ASSIGN_OR_RETURN(const auto versions, store_->KeptVersions(id));
  if (const auto kept = versions.find(*snapshot_id); kept != versions.end()) {
    spdlog::info("{} is version {} again, as in snapshot {}", record.name, kept->second.app_version,
                 *snapshot_id);
    ProjectRecord followed = WithVersion(record, kept->second);
    followed.opened = true;  // the restore began with its images
    VIBE_RETURN_IF_ERROR(store_->Put(followed).status());
  }
  VIBE_RETURN_IF_ERROR(RemoveAll(mark));
  // A mark that came back after a power cut would undo a later upgrade.
  const UniqueFd folder(::open(DirectoryOf(id).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return state::CommitFilesystem(folder.get());
}

void Supervisor::ForgetVersion(const std::string& id, const std::string& snapshot_id) {
  if (const absl::Status status = store_->ForgetVersion(id, snapshot_id); !status.ok()) {
    spdlog::warn("the version of snapshot {} stays: {}", snapshot_id, status.ToString());
  }
}

absl::Status Supervisor::CheckRestore(const v1::RestoreSnapshotRequest& request,
                                      const ProjectRecord& target,
                                      const manifest::Manifest& manifest,
                                      state::SnapshotStore& store) {
  if (request.verify()) {
    VIBE_RETURN_IF_ERROR(store.Verify(request.snapshot_id()));
  }
  VIBE_ASSIGN_OR_RETURN(const Plan plan, PlanOf(target));
  for (const auto& [name, kind] : VolumesOf(manifest)) {
    const absl::Status dump = store.DumpPath(request.snapshot_id(), name).status();
    if (kind == state::Consistency::kPostgres && !dump.ok()) {
      VIBE_RETURN_IF_ERROR(CheckPostgresVersion(
          platform_, plan, FindVolumeUser(plan, name), store.StatePath(request.snapshot_id()), name,
          dump, options_.run / absl::StrCat("postgres-", request.id())));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Supervisor::Restored> Supervisor::RestoreSnapshot(
    const v1::RestoreSnapshotRequest& request, const ProgressSink& progress,
    const std::function<bool()>& cancelled) {
  const std::string& id = request.id();
  VIBE_RETURN_IF_ERROR(Record(id).status());
  VIBE_RETURN_IF_ERROR(AwaitRecovered(id, kRecoveryPatience));
  const std::shared_ptr<Entry> entry = EntryOf(id);
  absl::MutexLock operation(&entry->operation);
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, HeldRecord(id));
  VIBE_ASSIGN_OR_RETURN(const auto store, StateOf(id));
  // What cannot be restored is known before anything is stopped.
  VIBE_ASSIGN_OR_RETURN(const state::SnapshotMetadata snapshot, store->Get(request.snapshot_id()));
  VIBE_ASSIGN_OR_RETURN(ProjectRecord target, RecordFor(record, snapshot));
  VIBE_ASSIGN_OR_RETURN(const manifest::Manifest manifest, ManifestOf(target));
  const bool other_version = IsOtherVersion(record, target);
  if (other_version) {
    VIBE_ASSIGN_OR_RETURN(const Plan plan, PlanOf(target));
    VIBE_RETURN_IF_ERROR(
        WithFreeSpace(EnsureImages(target, plan, progress, cancelled), options_.data));
  }
  std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(id);
  const bool ran = AnyRuns(runtime.get());
  std::map<std::string, std::string> secrets;
  if (ran) {
    // They are nowhere but in what runs: whoever gave them is not asked again for a restore.
    VIBE_ASSIGN_OR_RETURN(const manifest::Manifest running, ManifestOf(record));
    VIBE_ASSIGN_OR_RETURN(secrets, runtime->GivenSecrets(SecretNames(running)));
    VIBE_RETURN_IF_ERROR(CheckSecrets(target, secrets));
  }
  if (const absl::Status fits = CheckRestore(request, target, manifest, *store); !fits.ok()) {
    return WithReason(Annotate(fits, absl::StrCat("the state of ", record.name, " is as it was")),
                      Reason::kRestoreFailed);
  }
  Restored restored;
  restored.warnings = VolumeWarnings(snapshot, target, manifest);
  // Without a safety snapshot it may be what frees the disk, and has the reserve.
  const WorkingRoom::Hold room(working_room_);
  if (request.skip_safety_snapshot()) {
    VIBE_RETURN_IF_ERROR(working_room_.Ensure());
  } else {  // which asks for the space that it takes
    SaveCall call;
    call.request.reason = state::SnapshotReason::kBeforeRestore;
    call.request.message = absl::StrCat("before the restore of ", request.snapshot_id());
    call.skip_hooks = request.skip_hooks();
    call.keep = {request.snapshot_id()};
    call.keep_version = other_version;
    call.cancelled = cancelled;
    VIBE_ASSIGN_OR_RETURN(const state::SnapshotMetadata safety,
                          Save(record, std::move(call), progress));
    restored.safety_snapshot_id = safety.snapshot_id;
  }
  if (runtime != nullptr) {
    VIBE_RETURN_IF_ERROR(working_room_.Use([&] { return runtime->Stop(kStopLimit, progress); }));
  }
  const absl::Status swapped = [&]() -> absl::Status {
    if (cancelled()) {
      return absl::CancelledError("the restore was cancelled");
    }
    progress(SnapshotEvent(v1::Progress::PHASE_RESTORE, request.snapshot_id()));
    state::RestoreRequest restore;
    restore.snapshot_id = request.snapshot_id();
    restore.prepare = PrepareFor({.record = target,
                                  .snapshot_id = request.snapshot_id(),
                                  .skip_hooks = request.skip_hooks(),
                                  .brings_version = other_version},
                                 manifest, *store);
    return working_room_.Use([&] { return Patiently([&] { return store->Restore(restore); }); });
  }();
  if (swapped.ok()) {
    if (const absl::Status followed = FollowState(id); !followed.ok()) {
      return WithAdvice(
          WithFreeSpace(
              Annotate(followed,
                       absl::StrCat("snapshot ", request.snapshot_id(), " is restored, but ",
                                    record.name, " is not version ", target.app_version, " yet")),
              options_.data),
          absl::StrCat("try again with `vibe start ", record.name, "`"));
    }
  }
  absl::Status started;
  if (ran) {
    // A user who breaks off before the swap has the app run on; after it, a start that hangs has to
    // give way to a stop.
    started = StartLocked(*entry, swapped.ok() ? target : record, secrets, progress,
                          [&] { return swapped.ok() && cancelled(); });
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
    const char* skip = HasPostRestore(manifest) && !request.skip_hooks() ? " --skip-hooks" : "";
    return restored.safety_snapshot_id.empty()
               ? started
               : AddAdvice(started, absl::StrCat("go back with `vibe restore ", record.name, " ",
                                                 restored.safety_snapshot_id, " --no-safety", skip,
                                                 "`, then `vibe start ", record.name, "`"));
  }
  if (other_version) {
    RemoveUnusedPackages();
  }
  VIBE_ASSIGN_OR_RETURN(restored.project, GetProject(id));
  return restored;
}

// ---- duplicate

// Before the copy there is a mark, and the record comes last: a mark without a record is a copy
// that nobody knows of.
absl::StatusOr<v1::Project> Supervisor::DuplicateProject(const v1::DuplicateProjectRequest& request,
                                                         const ProgressSink& progress,
                                                         const std::function<bool()>& cancelled) {
  VIBE_RETURN_IF_ERROR(CheckIdentity(request.new_id(), request.new_name()));
  VIBE_RETURN_IF_ERROR(Record(request.id()).status());
  VIBE_RETURN_IF_ERROR(AwaitRecovered(request.id(), kRecoveryPatience));
  // Whoever gives the copy up deletes it: that waits for this call, or ends it before it begins.
  const std::shared_ptr<Entry> copied = EntryOf(request.new_id());
  absl::MutexLock copying(&copied->operation);
  if (store_->Get(request.new_id()).ok() || store_->GetByName(request.new_name()).ok()) {
    return Error(absl::StatusCode::kAlreadyExists, Reason::kConflict,
                 absl::StrCat("there is a project ", request.new_name(), " already"));
  }
  const std::shared_ptr<Entry> entry = EntryOf(request.id());
  absl::MutexLock operation(&entry->operation);
  if (cancelled() || EntryOf(request.new_id()) != copied) {
    return absl::CancelledError("the copy was cancelled");
  }
  VIBE_ASSIGN_OR_RETURN(ProjectRecord source, HeldRecord(request.id()));
  VIBE_ASSIGN_OR_RETURN(const auto store, StateOf(request.id()));
  if (!request.snapshot_id().empty()) {
    VIBE_ASSIGN_OR_RETURN(const state::SnapshotMetadata snapshot,
                          store->Get(request.snapshot_id()));
    VIBE_ASSIGN_OR_RETURN(source, RecordFor(source, snapshot));
  }
  VIBE_RETURN_IF_ERROR(CheckSpace());
  VIBE_ASSIGN_OR_RETURN(const manifest::Manifest manifest, ManifestOf(source));
  progress(SnapshotEvent(v1::Progress::PHASE_COPY, request.new_name()));
  const std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(source.id);
  if (request.snapshot_id().empty()) {
    SaveCall call;
    call.hooks_must_pass = true;
    call.hook_advice = absl::StrCat("mend the hook, or copy a snapshot: `vibe save ", source.name,
                                    " --skip-hooks`, `vibe duplicate ", source.name, " ",
                                    request.new_name(), " --from ID`");
    call.cancelled = cancelled;
    if (const auto hooks = RunPreSaveHooks(source, runtime.get(), call, progress); !hooks.ok()) {
      return WithReason(
          Annotate(hooks.status(), absl::StrCat("project ", source.name, " was not duplicated")),
          Reason::kDuplicateFailed);
    }
  }
  const std::filesystem::path mark = options_.data / kDuplicating / request.new_id();
  VIBE_RETURN_IF_ERROR(MakeDirectories(mark.parent_path()));
  VIBE_RETURN_IF_ERROR(ReplaceFile(mark, "", 0600));
  state::DuplicateRequest duplicate;
  duplicate.snapshot_id = request.snapshot_id();
  duplicate.target = DirectoryOf(request.new_id());
  duplicate.target_project_id = request.new_id();
  duplicate.prepare =
      PrepareFor({.record = source, .snapshot_id = request.snapshot_id()}, manifest, *store);
  duplicate.hooks = QuiesceFor(runtime.get(), VolumesOf(manifest));
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
