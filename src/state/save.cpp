#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/random.h"
#include "base/status.h"
#include "state/background_thread.h"
#include "state/fault.h"
#include "state/files_at.h"
#include "state/project.h"
#include "state/snapshot_store.h"

namespace vibe::state {
namespace {

constexpr int kMaxFlushes = 4;
constexpr absl::Duration kShortFlush = absl::Milliseconds(15);

absl::Time WholeMilliseconds(absl::Time time) {
  return absl::FromUnixMillis(absl::ToUnixMillis(time));
}

SnapshotMetadata Requested(const SaveRequest& request, const std::string& project_id) {
  SnapshotMetadata metadata;
  metadata.snapshot_id = request.snapshot_id.empty() ? RandomUuid() : request.snapshot_id;
  metadata.project_id = project_id;
  metadata.reason = request.reason;
  metadata.app_version = request.app_version;
  metadata.message = request.message;
  metadata.labels = request.labels;
  metadata.pre_save = absl::Microseconds(absl::ToInt64Microseconds(request.pre_save));
  metadata.warnings = request.warnings;
  for (const auto& [name, consistency] : request.volumes) {
    metadata.volumes[name].consistency = consistency;
  }
  return metadata;
}

// The kernel writes out what is dirty before it takes a snapshot: the less is left, the shorter is
// the pause. An app that goes on writing leaves as much as it writes during a flush, so that the
// next one has less to do, until they differ no more.
absl::Status FlushUntilLittleIsLeft(int current) {
  for (int flush = 0; flush < kMaxFlushes; ++flush) {
    const absl::Time begun = absl::Now();
    VIBE_RETURN_IF_ERROR(CommitFilesystem(current));
    if (absl::Now() - begun < kShortFlush) {
      break;
    }
  }
  return absl::OkStatus();
}

// The steps from the recorded intent on. Their error leaves everything to Settle.
class SaveSteps {
 public:
  SaveSteps(const ProjectDirectory& directory, const SaveRequest& request,
            const std::string& staged, SnapshotMetadata& metadata)
      : directory_(directory), request_(request), staged_(staged), metadata_(metadata) {}

  absl::Status Run(int current, SnapshotIndex index) {
    VIBE_ASSIGN_OR_RETURN(const UniqueFd staging, directory_.Staging());
    VIBE_ASSIGN_OR_RETURN(const UniqueFd folder, EnsureDirectoryAt(staging.get(), staged_));
    VIBE_FAULT_POINT("save.folder");
    const QuietDisk quiet;
    VIBE_RETURN_IF_ERROR(FlushUntilLittleIsLeft(current));
    VIBE_FAULT_POINT("save.flushed");
    VIBE_RETURN_IF_ERROR(WithPause(
        request_.hooks,
        [&] {
          VIBE_FAULT_POINT("save.quiesced");
          metadata_.timestamp = WholeMilliseconds(absl::Now());
          return SnapshotSubvolume(current, folder.get(), kState, SnapshotMode::kReadOnly);
        },
        metadata_.pause));
    VIBE_FAULT_POINT("save.snapshot");
    VIBE_RETURN_IF_ERROR(Describe(current, folder.get()));
    VIBE_RETURN_IF_ERROR(ReplaceFileAt(folder.get(), kMetadataFile, MetadataToJson(metadata_)));
    VIBE_FAULT_POINT("save.staged");
    VIBE_ASSIGN_OR_RETURN(const UniqueFd snapshots, directory_.Snapshots());
    VIBE_RETURN_IF_ERROR(MoveAt(staging.get(), staged_, snapshots.get(), metadata_.snapshot_id));
    VIBE_FAULT_POINT("save.moved");
    index.snapshot_ids.push_back(metadata_.snapshot_id);
    VIBE_RETURN_IF_ERROR(directory_.WriteIndex(index));
    VIBE_FAULT_POINT("save.listed");
    return directory_.ClearIntent();
  }

 private:
  absl::Status Describe(int current, int folder) {
    VIBE_ASSIGN_OR_RETURN(const UniqueFd state, OpenSubvolume(folder, kState));
    VIBE_ASSIGN_OR_RETURN(const SubvolumeInfo taken, GetSubvolumeInfo(state.get()));
    VIBE_ASSIGN_OR_RETURN(const SubvolumeInfo source, GetSubvolumeInfo(current));
    if (taken.parent_uuid != source.uuid) {
      return absl::InternalError("the snapshot is not of the state that it was taken from");
    }
    metadata_.subvolume_uuid = taken.uuid;
    metadata_.source_uuid = source.uuid;
    // The snapshot's own mark is that of the instant; `current` may have gone on since.
    metadata_.source_generation = taken.change_generation;
    metadata_.generation = taken.origin_generation;
    return absl::OkStatus();
  }

  const ProjectDirectory& directory_;
  const SaveRequest& request_;
  const std::string& staged_;
  SnapshotMetadata& metadata_;
};

}  // namespace

absl::Status RefuseNested(int subvolume) {
  VIBE_ASSIGN_OR_RETURN(const std::vector<NestedSubvolume> nested,
                        ListNestedSubvolumes(subvolume, 1));
  if (nested.empty()) {
    return absl::OkStatus();
  }
  return WithAdvice(Error(absl::StatusCode::kFailedPrecondition, Reason::kSaveFailed,
                          absl::StrCat("the state has a btrfs subvolume of its own, \"",
                                       absl::CHexEscape(nested.front().name),
                                       "\": a snapshot would be without its files")),
                    "have the app put its files into a plain folder");
}

absl::Status WithPause(const QuiesceHooks& hooks, const std::function<absl::Status()>& instant,
                       absl::Duration& pause) {
  const absl::Time begun = absl::Now();
  absl::Status status;
  {
    const absl::Cleanup thaw = [&] {
      if (hooks.thaw) {
        hooks.thaw();
      }
    };
    status = hooks.quiesce ? hooks.quiesce() : absl::OkStatus();
    if (status.ok()) {
      status = instant();
    }
  }
  pause = absl::Microseconds(absl::ToInt64Microseconds(absl::Now() - begun));
  return status;
}

absl::Status SnapshotStore::CheckRequest(const SaveRequest& request) const {
  return CheckMetadata(Requested(request, project_->directory.project_id()));
}

absl::StatusOr<SnapshotMetadata> SnapshotStore::Save(const SaveRequest& request) {
  const ProjectDirectory& directory = project_->directory;
  SnapshotMetadata metadata = Requested(request, directory.project_id());
  VIBE_RETURN_IF_ERROR(CheckMetadata(metadata));
  VIBE_ASSIGN_OR_RETURN(const ProjectLock lock, directory.LockAndSettle());
  VIBE_ASSIGN_OR_RETURN(const SnapshotIndex index, directory.ReadIndex());
  if (index.snapshot_ids.size() >= kMaxSnapshots) {
    return WithAdvice(absl::ResourceExhaustedError(
                          absl::StrCat("this project has ", kMaxSnapshots, " snapshots already")),
                      "delete some that you no longer need");
  }
  VIBE_ASSIGN_OR_RETURN(const UniqueFd current, OpenSubvolume(directory.fd(), kCurrent));
  VIBE_RETURN_IF_ERROR(RefuseNested(current.get()));
  VIBE_ASSIGN_OR_RETURN(const SubvolumeInfo info, GetSubvolumeInfo(current.get()));
  const std::vector<SnapshotMetadata> earlier = ReadableMetadata(directory, index);
  if (const SnapshotMetadata* origin = FindOrigin(earlier, info); origin != nullptr) {
    metadata.parent_snapshot_id = origin->snapshot_id;
  }

  const Intent intent{.kind = Intent::Kind::kSave,
                      .snapshot_id = metadata.snapshot_id,
                      .staged = absl::StrCat("save-", metadata.snapshot_id),
                      .current_uuid = ""};
  VIBE_RETURN_IF_ERROR(directory.WriteIntent(intent));
  VIBE_FAULT_POINT("save.intent");
  const absl::Status saved =
      SaveSteps(directory, request, intent.staged, metadata).Run(current.get(), index);
  if (!saved.ok()) {
    // What cannot be undone now is undone by whoever takes the lock next.
    directory.Settle(intent).IgnoreError();
    return WithReason(saved, Reason::kSaveFailed);
  }
  VIBE_FAULT_POINT("save.done");
  return metadata;
}

}  // namespace vibe::state
