// Putting a snapshot in the place of a project's state, and making another project of one. What
// happens on the disk, and how it survives crashes, is in src/state.
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "spdlog/spdlog.h"
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

// With it the services' postRestore hooks run after the next start. It is in the clone before that
// becomes the state, so that no crash comes between the two.
absl::Status MarkRestored(const std::filesystem::path& clone, const manifest::Manifest& manifest,
                          bool skip_hooks) {
  const std::filesystem::path mark = clone / kRuntime / kRestoredMark;
  const bool wanted = !skip_hooks && std::any_of(manifest.services.begin(), manifest.services.end(),
                                                 [](const auto& service) {
                                                   return service.hooks.post_restore.has_value();
                                                 });
  if (wanted) {
    VIBE_RETURN_IF_ERROR(MakeDirectories(mark.parent_path()));
    return ReplaceFile(mark, "", 0600);
  }
  return RemoveAll(mark);  // the snapshot may be of a state whose hooks had not run
}

}  // namespace

std::function<absl::Status(const std::filesystem::path&)> Supervisor::PrepareFor(
    const ProjectRecord& record, const manifest::Manifest& manifest, const std::string& snapshot_id,
    state::SnapshotStore& store, bool skip_hooks) {
  return [this, record, manifest, snapshot_id, skip_hooks,
          &store](const std::filesystem::path& clone) -> absl::Status {
    VIBE_ASSIGN_OR_RETURN(const Plan plan, PlanOf(record));
    for (const auto& [name, kind] : VolumesOf(manifest)) {
      // The live state is of the version that runs.
      if (kind == state::Consistency::kPostgres && !snapshot_id.empty()) {
        VIBE_RETURN_IF_ERROR(MatchPostgresVersion(platform_, plan, FindVolumeUser(plan, name),
                                                  clone, name, store.DumpPath(snapshot_id, name),
                                                  {}));
      }
    }
    return MarkRestored(clone, manifest, skip_hooks);
  };
}

absl::StatusOr<Supervisor::Restored> Supervisor::RestoreSnapshot(
    const v1::RestoreSnapshotRequest& request, const ProgressSink& progress,
    const std::function<bool()>& cancelled) {
  const std::string& id = request.id();
  VIBE_RETURN_IF_ERROR(Record(id).status());
  VIBE_RETURN_IF_ERROR(AwaitRecovered(id, kRecoveryPatience));
  const std::shared_ptr<Entry> entry = EntryOf(id);
  absl::MutexLock operation(&entry->operation);
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, Record(id));
  VIBE_ASSIGN_OR_RETURN(const auto store, StateOf(id));
  VIBE_ASSIGN_OR_RETURN(const manifest::Manifest manifest, ManifestOf(record));
  // What cannot be restored is known before anything is stopped.
  VIBE_RETURN_IF_ERROR(store->Get(request.snapshot_id()).status());
  std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(id);
  const bool ran = AnyRuns(runtime.get());
  std::map<std::string, std::string> secrets;
  if (ran) {
    // They are nowhere but in what runs: whoever gave them is not asked again for a restore.
    VIBE_ASSIGN_OR_RETURN(secrets, runtime->GivenSecrets(SecretNames(manifest)));
  }
  Restored restored;
  if (!request.skip_safety_snapshot()) {
    SaveCall call;
    call.request.reason = state::SnapshotReason::kBeforeRestore;
    call.request.message = absl::StrCat("before the restore of ", request.snapshot_id());
    call.skip_hooks = request.skip_hooks();
    call.keep = {request.snapshot_id()};
    call.cancelled = cancelled;
    VIBE_ASSIGN_OR_RETURN(const state::SnapshotMetadata safety,
                          Save(record, std::move(call), progress));
    restored.safety_snapshot_id = safety.snapshot_id;
  }
  if (runtime != nullptr) {
    VIBE_RETURN_IF_ERROR(runtime->Stop(kStopLimit, progress));
  }
  const absl::Status swapped = [&]() -> absl::Status {
    if (cancelled()) {
      return absl::CancelledError("the restore was cancelled");
    }
    progress(SnapshotEvent(v1::Progress::PHASE_RESTORE, request.snapshot_id()));
    state::RestoreRequest restore;
    restore.snapshot_id = request.snapshot_id();
    restore.verify = request.verify();
    restore.prepare =
        PrepareFor(record, manifest, request.snapshot_id(), *store, request.skip_hooks());
    return Patiently([&] { return store->Restore(restore); });
  }();
  absl::Status started;
  if (ran) {
    // A user who breaks off before the swap has the app run on; after it, a start that hangs has to
    // give way to a stop.
    started =
        StartLocked(*entry, record, secrets, progress, [&] { return swapped.ok() && cancelled(); });
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
                                                         const ProgressSink& progress,
                                                         const std::function<bool()>& cancelled) {
  VIBE_RETURN_IF_ERROR(CheckIdentity(request.new_id(), request.new_name()));
  VIBE_RETURN_IF_ERROR(Record(request.id()).status());
  VIBE_RETURN_IF_ERROR(AwaitRecovered(request.id(), kRecoveryPatience));
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
      PrepareFor(source, manifest, request.snapshot_id(), *store, /*skip_hooks=*/false);
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
