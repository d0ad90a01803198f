#include "state/project_directory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/statfs.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "state/fault.h"
#include "state/files_at.h"
#include "state/staged_removal.h"
#include "state/subvolume.h"

namespace vibe::state {
namespace {

constexpr uint64_t kMaxIntentBytes = 64 << 10;
constexpr absl::Duration kLockPoll = absl::Milliseconds(10);

absl::Status Mismatch(const std::string& id, absl::string_view why) {
  return Error(absl::StatusCode::kFailedPrecondition, Reason::kSnapshotMismatch,
               absl::StrCat("snapshot ", id, ": ", why));
}

// A file that is there and cannot be read as what it should be.
absl::Status Unreadable(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status)
             ? Error(absl::StatusCode::kDataLoss, Reason::kSnapshotMismatch, status.message())
             : status;
}

}  // namespace

absl::StatusOr<ProjectDirectory> ProjectDirectory::Open(const std::filesystem::path& path,
                                                        const std::string& project_id) {
  VIBE_ASSIGN_OR_RETURN(UniqueFd fd, OpenDirectoryAt(AT_FDCWD, path.string()));
  struct statfs filesystem = {};
  if (::fstatfs(fd.get(), &filesystem) != 0) {
    return ErrnoError(errno, absl::StrCat("stat ", path.string()));
  }
  if (filesystem.f_type != BTRFS_SUPER_MAGIC) {
    return absl::FailedPreconditionError(absl::StrCat(path.string(), " is not on btrfs"));
  }
  return ProjectDirectory(path, project_id, std::move(fd));
}

absl::StatusOr<ProjectLock> ProjectDirectory::Lock(absl::Duration wait) const {
  // A descriptor of its own: flock belongs to that, so that two threads exclude each other too.
  VIBE_ASSIGN_OR_RETURN(UniqueFd fd, OpenDirectoryAt(fd_.get(), "."));
  const absl::Time deadline = absl::Now() + wait;
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) {
      continue;
    }
    if (errno != EWOULDBLOCK) {
      return ErrnoError(errno, absl::StrCat("lock ", path_.string()));
    }
    if (absl::Now() >= deadline) {
      return Error(absl::StatusCode::kUnavailable, Reason::kSaveInProgress,
                   "another save, restore or duplication of this project is under way");
    }
    absl::SleepFor(kLockPoll);
  }
  return ProjectLock(std::move(fd));
}

absl::StatusOr<ProjectLock> ProjectDirectory::LockAndSettle(absl::Duration wait) const {
  VIBE_ASSIGN_OR_RETURN(ProjectLock lock, Lock(wait));
  VIBE_ASSIGN_OR_RETURN(const std::optional<Intent> intent, ReadIntent());
  if (intent.has_value()) {
    VIBE_RETURN_IF_ERROR(Settle(*intent).status());
  }
  return lock;
}

absl::StatusOr<SnapshotIndex> ProjectDirectory::ReadIndex() const {
  const absl::StatusOr<std::string> text = ReadFileAt(fd_.get(), kIndexFile, kMaxIndexBytes);
  if (absl::IsNotFound(text.status())) {
    return SnapshotIndex{.project_id = project_id_, .snapshot_ids = {}};
  }
  if (!text.ok()) {
    return Unreadable(text.status());
  }
  absl::StatusOr<SnapshotIndex> index = IndexFromJson(*text);
  if (!index.ok()) {
    return Annotate(index.status(), absl::StrCat("project ", project_id_));
  }
  if (index->project_id != project_id_) {
    return Error(
        absl::StatusCode::kFailedPrecondition, Reason::kSnapshotMismatch,
        absl::StrCat("index.json of project ", project_id_, " is that of another project, ",
                     absl::CHexEscape(index->project_id.substr(0, 100))));
  }
  return index;
}

absl::Status ProjectDirectory::WriteIndex(const SnapshotIndex& index) const {
  return ReplaceFileAt(fd_.get(), kIndexFile, IndexToJson(index));
}

absl::StatusOr<std::optional<Intent>> ProjectDirectory::ReadIntent() const {
  const absl::StatusOr<std::string> text = ReadFileAt(fd_.get(), kIntentFile, kMaxIntentBytes);
  if (absl::IsNotFound(text.status())) {
    return std::nullopt;
  }
  if (!text.ok()) {
    return Unreadable(text.status());
  }
  VIBE_ASSIGN_OR_RETURN(Intent intent, IntentFromJson(*text));
  return intent;
}

absl::Status ProjectDirectory::WriteIntent(const Intent& intent) const {
  return ReplaceFileAt(fd_.get(), kIntentFile, IntentToJson(intent));
}

absl::Status ProjectDirectory::ClearIntent() const {
  return RemoveFileAt(fd_.get(), kIntentFile);
}

absl::StatusOr<UniqueFd> ProjectDirectory::Snapshots() const {
  return EnsureDirectoryAt(fd_.get(), kSnapshots);
}

absl::StatusOr<UniqueFd> ProjectDirectory::Staging() const {
  return EnsureDirectoryAt(fd_.get(), kStaging);
}

absl::Status ProjectDirectory::RemoveStaged(const std::string& name) const {
  const absl::StatusOr<UniqueFd> staging = OpenDirectoryAt(fd_.get(), kStaging);
  if (!staging.ok()) {
    return absl::IsNotFound(staging.status()) ? absl::OkStatus() : staging.status();
  }
  VIBE_RETURN_IF_ERROR(RemoveStagedAt(staging->get(), name));
  return SyncAt(staging->get());
}

absl::Status ProjectDirectory::CheckListed(const SnapshotIndex& index,
                                           const std::string& id) const {
  if (std::find(index.snapshot_ids.begin(), index.snapshot_ids.end(), id) ==
      index.snapshot_ids.end()) {
    return Error(
        absl::StatusCode::kNotFound, Reason::kNotFound,
        absl::StrCat("this project has no snapshot ", absl::CHexEscape(id.substr(0, 100))));
  }
  return absl::OkStatus();
}

absl::StatusOr<SnapshotMetadata> ProjectDirectory::ReadMetadata(const std::string& id) const {
  const std::string folder = absl::StrCat(kSnapshots, "/", id);
  const absl::StatusOr<UniqueFd> snapshot = OpenDirectoryAt(fd_.get(), folder);
  if (!snapshot.ok()) {
    return absl::IsNotFound(snapshot.status()) ? Mismatch(id, "its folder is missing")
                                               : snapshot.status();
  }
  const absl::StatusOr<std::string> text =
      ReadFileAt(snapshot->get(), kMetadataFile, kMaxMetadataBytes);
  if (!text.ok()) {
    return absl::IsNotFound(text.status())
               ? Mismatch(id, "its metadata.json is missing")
               : Annotate(Unreadable(text.status()), absl::StrCat("snapshot ", id));
  }
  absl::StatusOr<SnapshotMetadata> metadata = MetadataFromJson(*text);
  if (!metadata.ok()) {
    return Annotate(metadata.status(), absl::StrCat("snapshot ", id));
  }
  if (metadata->snapshot_id != id) {
    return Mismatch(id, absl::StrCat("its metadata is that of snapshot ", metadata->snapshot_id));
  }
  if (metadata->project_id != project_id_) {
    return Mismatch(id, absl::StrCat("it is another project's, ",
                                     absl::CHexEscape(metadata->project_id.substr(0, 100))));
  }
  return metadata;
}

absl::StatusOr<UsableSnapshot> ProjectDirectory::Load(const std::string& id) const {
  VIBE_ASSIGN_OR_RETURN(const SnapshotIndex index, ReadIndex());
  VIBE_RETURN_IF_ERROR(CheckListed(index, id));
  return LoadListed(id);
}

absl::StatusOr<UsableSnapshot> ProjectDirectory::LoadListed(const std::string& id) const {
  UsableSnapshot snapshot;
  VIBE_ASSIGN_OR_RETURN(snapshot.metadata, ReadMetadata(id));
  VIBE_ASSIGN_OR_RETURN(const UniqueFd folder,
                        OpenDirectoryAt(fd_.get(), absl::StrCat(kSnapshots, "/", id)));
  absl::StatusOr<UniqueFd> state = OpenSubvolume(folder.get(), kState);
  if (absl::IsNotFound(state.status())) {
    return Mismatch(id, "its subvolume is missing");
  }
  if (absl::IsFailedPrecondition(state.status())) {
    return Mismatch(id, "its state is no subvolume");
  }
  VIBE_RETURN_IF_ERROR(state.status());
  VIBE_ASSIGN_OR_RETURN(const SubvolumeInfo info, GetSubvolumeInfo(state->get()));
  if (info.uuid != snapshot.metadata.subvolume_uuid) {
    return Mismatch(id, absl::StrCat("its subvolume is another one (", info.uuid, ", not ",
                                     snapshot.metadata.subvolume_uuid, ")"));
  }
  if (!info.read_only) {
    return Mismatch(id, "its subvolume was made writable");
  }
  snapshot.state = *std::move(state);
  return snapshot;
}

absl::StatusOr<std::string> ProjectDirectory::Settle(const Intent& intent, Removal removal) const {
  std::string what;
  switch (intent.kind) {
    case Intent::Kind::kSave: {
      VIBE_ASSIGN_OR_RETURN(what, SettleSave(intent));
      break;
    }
    case Intent::Kind::kDelete: {
      VIBE_ASSIGN_OR_RETURN(what, SettleDelete(intent));
      break;
    }
    case Intent::Kind::kRestore: {
      VIBE_ASSIGN_OR_RETURN(what, SettleRestore(intent));
      break;
    }
    case Intent::Kind::kDuplicate: {
      // The clone gets its name `current` in one step: it has it, or is nothing.
      VIBE_ASSIGN_OR_RETURN(const bool has_current, ExistsAt(fd_.get(), kCurrent));
      what = has_current ? "finished a duplication" : "undid a duplication";
      break;
    }
  }
  if (removal == Removal::kNow) {
    VIBE_RETURN_IF_ERROR(RemoveStaged(intent.staged));
  }
  VIBE_FAULT_POINT("settle.settled");
  VIBE_RETURN_IF_ERROR(ClearIntent());
  return what;
}

absl::StatusOr<std::string> ProjectDirectory::SettleSave(const Intent& intent) const {
  VIBE_ASSIGN_OR_RETURN(SnapshotIndex index, ReadIndex());
  VIBE_ASSIGN_OR_RETURN(const UniqueFd snapshots, Snapshots());
  VIBE_ASSIGN_OR_RETURN(const bool present, ExistsAt(snapshots.get(), intent.snapshot_id));
  // It is moved there when it has everything: from then on it counts.
  if (!present) {
    return absl::StrCat("undid the save of snapshot ", intent.snapshot_id);
  }
  if (!CheckListed(index, intent.snapshot_id).ok()) {
    index.snapshot_ids.push_back(intent.snapshot_id);
    VIBE_RETURN_IF_ERROR(WriteIndex(index));
  }
  return absl::StrCat("finished the save of snapshot ", intent.snapshot_id);
}

absl::StatusOr<std::string> ProjectDirectory::SettleDelete(const Intent& intent) const {
  VIBE_ASSIGN_OR_RETURN(SnapshotIndex index, ReadIndex());
  VIBE_ASSIGN_OR_RETURN(const UniqueFd snapshots, Snapshots());
  VIBE_ASSIGN_OR_RETURN(const UniqueFd staging, Staging());
  const auto removed =
      std::remove(index.snapshot_ids.begin(), index.snapshot_ids.end(), intent.snapshot_id);
  if (removed != index.snapshot_ids.end()) {
    index.snapshot_ids.erase(removed, index.snapshot_ids.end());
    VIBE_RETURN_IF_ERROR(WriteIndex(index));
    VIBE_FAULT_POINT("delete.unlisted");
  }
  VIBE_ASSIGN_OR_RETURN(const bool present, ExistsAt(snapshots.get(), intent.snapshot_id));
  if (present) {
    VIBE_RETURN_IF_ERROR(MoveAt(snapshots.get(), intent.snapshot_id, staging.get(), intent.staged));
    VIBE_FAULT_POINT("delete.moved");
  }
  return absl::StrCat("finished the deletion of snapshot ", intent.snapshot_id);
}

absl::StatusOr<std::string> ProjectDirectory::SettleRestore(const Intent& intent) const {
  // Before the exchange the clone is what is staged, after it the old state: neither is needed.
  std::string uuid;
  const absl::StatusOr<UniqueFd> current = OpenSubvolume(fd_.get(), kCurrent);
  if (current.ok()) {
    VIBE_ASSIGN_OR_RETURN(const SubvolumeInfo info, GetSubvolumeInfo(current->get()));
    uuid = info.uuid;
  } else if (!absl::IsNotFound(current.status())) {
    return current.status();
  }
  return absl::StrCat(uuid == intent.current_uuid ? "undid" : "finished",
                      " the restore of snapshot ", intent.snapshot_id);
}

}  // namespace vibe::state
