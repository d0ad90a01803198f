#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status.h"
#include "state/background_thread.h"
#include "state/digest.h"
#include "state/fault.h"
#include "state/files_at.h"
#include "state/left_out.h"
#include "state/project.h"
#include "state/snapshot_store.h"

namespace vibe::state {
namespace {

constexpr size_t kNameBytes = 8;

absl::Status VerifyContent(const UsableSnapshot& snapshot, const std::stop_token& stop) {
  const std::string& id = snapshot.metadata.snapshot_id;
  if (!snapshot.metadata.complete) {
    return WithAdvice(absl::FailedPreconditionError(
                          absl::StrCat("the digest of snapshot ", id, " is not computed yet")),
                      "it is computed in the background: wait until `vibe snapshots` shows the "
                      "snapshot's size, and try again");
  }
  VIBE_ASSIGN_OR_RETURN(const StateDigest digest, DigestState(snapshot.state.get(), stop));
  if (digest.digest == snapshot.metadata.state_digest) {
    return absl::OkStatus();
  }
  std::string where;
  for (const auto& [name, volume] : snapshot.metadata.volumes) {
    const auto found = digest.volumes.find(name);
    const std::string now = found == digest.volumes.end() ? "" : found->second.digest;
    if (now != volume.digest) {
      absl::StrAppend(&where, where.empty() ? " (volume " : ", ", name);
    }
  }
  return Error(absl::StatusCode::kDataLoss, Reason::kSnapshotMismatch,
               absl::StrCat("snapshot ", id, " does not have the content that it had",
                            where.empty() ? "" : where + ")"));
}

// A writable clone `name` of `source` in `staging`, prepared and on the disk.
absl::Status StageClone(int source, const std::string& source_uuid, int staging,
                        const std::string& name, const std::filesystem::path& path,
                        const std::function<absl::Status(const std::filesystem::path&)>& prepare) {
  VIBE_RETURN_IF_ERROR(SnapshotSubvolume(source, staging, name, SnapshotMode::kWritable));
  VIBE_FAULT_POINT("clone.staged");
  VIBE_ASSIGN_OR_RETURN(const UniqueFd clone, OpenSubvolume(staging, name));
  VIBE_ASSIGN_OR_RETURN(const SubvolumeInfo info, GetSubvolumeInfo(clone.get()));
  if (info.parent_uuid != source_uuid || info.read_only) {
    return Error(absl::StatusCode::kFailedPrecondition, Reason::kSnapshotMismatch,
                 "the clone is not of the state that it was made from");
  }
  if (prepare) {
    VIBE_RETURN_IF_ERROR(prepare(path));
    VIBE_RETURN_IF_ERROR(CommitFilesystem(clone.get()));
  }
  VIBE_FAULT_POINT("clone.prepared");
  return absl::OkStatus();
}

// What a clone `name` in `staging` of a snapshot, or of the live state without one, becomes before
// it is anyone's state.
absl::Status PrepareClone(int staging, const std::string& name, const std::filesystem::path& path,
                          const SnapshotMetadata* snapshot, const std::stop_token& stop,
                          const std::function<absl::Status(const std::filesystem::path&)>& more) {
  {
    VIBE_ASSIGN_OR_RETURN(const UniqueFd clone, OpenSubvolume(staging, name));
    VIBE_RETURN_IF_ERROR(
        RemoveLeftOut(clone.get(), snapshot == nullptr ? std::nullopt : snapshot->left_out, stop));
  }
  return more ? more(path) : absl::OkStatus();
}

// The clone becomes `current`. An error leaves the old one, unless putting it back failed as well.
absl::Status Swap(const ProjectDirectory& directory, int staging, const std::string& staged,
                  bool has_current) {
  if (!has_current) {
    return MoveAt(staging, staged, directory.fd(), kCurrent);
  }
  VIBE_RETURN_IF_ERROR(ExchangeNames(staging, staged, directory.fd(), kCurrent));
  VIBE_FAULT_POINT("restore.exchanged");
  absl::Status committed = CommitFilesystem(directory.fd());
  if (!committed.ok()) {
    ExchangeNames(staging, staged, directory.fd(), kCurrent).IgnoreError();
  }
  return committed;
}

// The target's side of a duplication, undone by its end unless it is told to keep it.
class Target {
 public:
  Target() = default;
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  absl::Status Make(const std::filesystem::path& path, const std::string& project_id) {
    path_ = path;
    made_ = ::mkdir(path.c_str(), 0700) == 0;
    if (!made_ && errno != EEXIST) {
      return ErrnoError(errno, absl::StrCat("make the folder ", path.string()));
    }
    if (made_) {
      VIBE_ASSIGN_OR_RETURN(const UniqueFd parent,
                            OpenDirectoryAt(AT_FDCWD, path.parent_path().string()));
      VIBE_RETURN_IF_ERROR(SyncAt(parent.get()));
    }
    VIBE_FAULT_POINT("duplicate.folder");
    VIBE_ASSIGN_OR_RETURN(ProjectDirectory opened, ProjectDirectory::Open(path, project_id));
    directory_.emplace(std::move(opened));
    VIBE_ASSIGN_OR_RETURN(ProjectLock lock, directory_->LockAndSettle());
    lock_.emplace(std::move(lock));
    VIBE_ASSIGN_OR_RETURN(const bool taken, ExistsAt(directory_->fd(), kCurrent));
    if (taken) {
      return Error(absl::StatusCode::kAlreadyExists, Reason::kConflict,
                   absl::StrCat("the project ", project_id, " has a state already"));
    }
    return absl::OkStatus();
  }

  ~Target() {
    if (keep_) {
      return;
    }
    if (intent_.has_value() && directory_.has_value()) {
      directory_->Settle(*intent_).IgnoreError();
    }
    if (made_) {
      const std::string staging = path_ / kStaging;
      ::rmdir(staging.c_str());
      ::rmdir(path_.c_str());
    }
  }

  absl::Status Begin(const Intent& intent) {
    intent_ = intent;
    return directory_->WriteIntent(intent);
  }
  const ProjectDirectory& directory() const { return *directory_; }
  void Keep() { keep_ = true; }

 private:
  std::filesystem::path path_;
  bool made_ = false;
  bool keep_ = false;
  std::optional<ProjectDirectory> directory_;
  std::optional<ProjectLock> lock_;
  std::optional<Intent> intent_;
};

}  // namespace

absl::Status SnapshotStore::Verify(const std::string& id, std::stop_token stop) const {
  VIBE_ASSIGN_OR_RETURN(const UsableSnapshot snapshot, project_->directory.Load(id));
  return WithReason(VerifyContent(snapshot, stop), Reason::kRestoreFailed);
}

std::filesystem::path SnapshotStore::StatePath(const std::string& id) const {
  return project_->directory.path() / kSnapshots / id / kState;
}

absl::Status SnapshotStore::Restore(const RestoreRequest& request) {
  const ProjectDirectory& directory = project_->directory;
  VIBE_ASSIGN_OR_RETURN(const ProjectLock lock, directory.LockAndSettle());
  VIBE_ASSIGN_OR_RETURN(const UsableSnapshot snapshot, directory.Load(request.snapshot_id));
  const absl::StatusOr<UniqueFd> current = OpenSubvolume(directory.fd(), kCurrent);
  if (!current.ok() && !absl::IsNotFound(current.status())) {
    return current.status();
  }
  const QuietDisk quiet;
  Intent intent{.kind = Intent::Kind::kRestore,
                .snapshot_id = request.snapshot_id,
                .staged = absl::StrCat("restore-", RandomHex(kNameBytes)),
                .current_uuid = ""};
  if (current.ok()) {
    VIBE_ASSIGN_OR_RETURN(const SubvolumeInfo info, GetSubvolumeInfo(current->get()));
    intent.current_uuid = info.uuid;
  }
  VIBE_ASSIGN_OR_RETURN(const UniqueFd staging, directory.Staging());
  VIBE_RETURN_IF_ERROR(directory.WriteIntent(intent));
  VIBE_FAULT_POINT("restore.intent");
  absl::Status status = StageClone(
      snapshot.state.get(), snapshot.metadata.subvolume_uuid, staging.get(), intent.staged,
      directory.path() / kStaging / intent.staged, [&](const std::filesystem::path& path) {
        return PrepareClone(staging.get(), intent.staged, path, &snapshot.metadata, request.stop,
                            request.prepare);
      });
  if (status.ok() && request.stop.stop_requested()) {
    status = absl::CancelledError("stopped");
  }
  if (status.ok()) {
    status = Swap(directory, staging.get(), intent.staged, current.ok());
  }
  VIBE_FAULT_POINT("restore.swapped");
  // The old state, or the clone, goes. When that fails the restore has happened all the same, and
  // whoever takes the lock next removes the rest.
  if (directory.Settle(intent, Removal::kLater).ok()) {
    project_->sweeper.Remove(intent.staged);
  }
  VIBE_FAULT_POINT("restore.done");
  return WithReason(status, Reason::kRestoreFailed);
}

absl::Status SnapshotStore::Duplicate(const DuplicateRequest& request) {
  const ProjectDirectory& directory = project_->directory;
  VIBE_ASSIGN_OR_RETURN(const ProjectLock lock, directory.LockAndSettle());
  std::optional<UsableSnapshot> snapshot;
  UniqueFd live;
  if (request.snapshot_id.empty()) {
    VIBE_ASSIGN_OR_RETURN(live, OpenSubvolume(directory.fd(), kCurrent));
    VIBE_RETURN_IF_ERROR(RefuseNested(live.get()));
  } else {
    VIBE_ASSIGN_OR_RETURN(UsableSnapshot loaded, directory.Load(request.snapshot_id));
    snapshot.emplace(std::move(loaded));
  }
  const int source = snapshot.has_value() ? snapshot->state.get() : live.get();
  VIBE_ASSIGN_OR_RETURN(const SubvolumeInfo info, GetSubvolumeInfo(source));

  const QuietDisk quiet;
  Target target;
  VIBE_RETURN_IF_ERROR(target.Make(request.target, request.target_project_id));
  const Intent intent{.kind = Intent::Kind::kDuplicate,
                      .snapshot_id = request.snapshot_id,
                      .staged = absl::StrCat("duplicate-", RandomHex(kNameBytes)),
                      .current_uuid = ""};
  VIBE_RETURN_IF_ERROR(target.Begin(intent));
  VIBE_FAULT_POINT("duplicate.intent");
  VIBE_ASSIGN_OR_RETURN(const UniqueFd staging, target.directory().Staging());
  const std::filesystem::path path = request.target / kStaging / intent.staged;
  const auto prepare = [&](const std::filesystem::path& clone) {
    return PrepareClone(staging.get(), intent.staged, clone,
                        snapshot.has_value() ? &snapshot->metadata : nullptr, {}, request.prepare);
  };
  absl::Status status;
  if (snapshot.has_value()) {
    status = StageClone(source, info.uuid, staging.get(), intent.staged, path, prepare);
  } else {
    // The instant is the clone alone; what else there is to do is done when the app runs on.
    VIBE_RETURN_IF_ERROR(CommitFilesystem(source));
    absl::Duration pause;
    status = WithPause(
        request.hooks,
        [&] { return StageClone(source, info.uuid, staging.get(), intent.staged, path, nullptr); },
        pause);
    if (status.ok()) {
      status = prepare(path);
    }
    if (status.ok()) {
      status = CommitFilesystem(staging.get());
    }
  }
  VIBE_FAULT_POINT("duplicate.staged");
  if (status.ok()) {
    status = MoveAt(staging.get(), intent.staged, target.directory().fd(), kCurrent);
  }
  if (!status.ok()) {
    return WithReason(status, Reason::kDuplicateFailed);
  }
  VIBE_FAULT_POINT("duplicate.moved");
  target.Keep();
  target.directory().Settle(intent).IgnoreError();  // as in Restore
  VIBE_FAULT_POINT("duplicate.done");
  return absl::OkStatus();
}

}  // namespace vibe::state
