#include "state/snapshot_store.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status.h"
#include "state/fault.h"
#include "state/files_at.h"
#include "state/project.h"
#include "state/subvolume.h"

namespace vibe::state {
namespace {

constexpr int kListTries = 3;  // while others delete
constexpr size_t kNameBytes = 8;

}  // namespace

SnapshotClone::SnapshotClone(UniqueFd staging, std::string name, UniqueFd state,
                             std::filesystem::path path)
    : staging_(std::move(staging)),
      name_(std::move(name)),
      state_(std::move(state)),
      path_(std::move(path)) {}

SnapshotClone& SnapshotClone::operator=(SnapshotClone&& other) noexcept {
  Destroy();
  staging_ = std::move(other.staging_);
  name_ = std::move(other.name_);
  state_ = std::move(other.state_);
  path_ = std::move(other.path_);
  return *this;
}

SnapshotClone::~SnapshotClone() {
  Destroy();
}

void SnapshotClone::Destroy() {
  state_.reset();
  if (staging_.valid()) {
    // What stays is in staging/, which the next Recover empties.
    RemoveAt(staging_.get(), name_).IgnoreError();
    staging_.reset();
  }
}

SnapshotStore::SnapshotStore(std::unique_ptr<Project> project) : project_(std::move(project)) {}
SnapshotStore::~SnapshotStore() = default;

absl::StatusOr<std::unique_ptr<SnapshotStore>> SnapshotStore::Open(
    const std::filesystem::path& directory, const std::string& project_id) {
  VIBE_ASSIGN_OR_RETURN(ProjectDirectory opened, ProjectDirectory::Open(directory, project_id));
  return std::unique_ptr<SnapshotStore>(
      new SnapshotStore(std::make_unique<Project>(std::move(opened))));
}

absl::Status SnapshotStore::EnsureCurrent() {
  const ProjectDirectory& directory = project_->directory;
  VIBE_ASSIGN_OR_RETURN(const ProjectLock lock, directory.LockAndSettle());
  const absl::StatusOr<bool> is_subvolume = IsSubvolume(directory.fd(), kCurrent);
  if (absl::IsNotFound(is_subvolume.status())) {
    VIBE_RETURN_IF_ERROR(CreateSubvolume(directory.fd(), kCurrent));
    return SyncAt(directory.fd());
  }
  VIBE_RETURN_IF_ERROR(is_subvolume.status());
  return *is_subvolume ? absl::OkStatus()
                       : absl::FailedPreconditionError(absl::StrCat(
                             (directory.path() / kCurrent).string(), " is no btrfs subvolume"));
}

absl::StatusOr<std::vector<ListedSnapshot>> SnapshotStore::List() {
  const ProjectDirectory& directory = project_->directory;
  for (int attempt = 1;; ++attempt) {
    VIBE_ASSIGN_OR_RETURN(const SnapshotIndex index, directory.ReadIndex());
    std::vector<ListedSnapshot> listed;
    bool whole = true;
    for (auto id = index.snapshot_ids.rbegin(); id != index.snapshot_ids.rend(); ++id) {
      absl::StatusOr<UsableSnapshot> snapshot = directory.LoadListed(*id);
      ListedSnapshot& entry = listed.emplace_back();
      if (snapshot.ok()) {
        entry.metadata = std::move(snapshot->metadata);
      } else {
        entry.metadata.snapshot_id = *id;
        entry.problem = std::string(snapshot.status().message());
        whole = false;
      }
    }
    if (whole || attempt == kListTries) {
      return listed;
    }
    // One may have been deleted between the two reads: then it is not listed any more.
    VIBE_ASSIGN_OR_RETURN(const SnapshotIndex again, directory.ReadIndex());
    if (again.snapshot_ids == index.snapshot_ids) {
      return listed;
    }
  }
}

absl::StatusOr<SnapshotMetadata> SnapshotStore::Get(const std::string& id) {
  VIBE_ASSIGN_OR_RETURN(UsableSnapshot snapshot, project_->directory.Load(id));
  return std::move(snapshot.metadata);
}

absl::Status SnapshotStore::Delete(const std::string& id) {
  const ProjectDirectory& directory = project_->directory;
  VIBE_ASSIGN_OR_RETURN(const ProjectLock lock, directory.LockAndSettle());
  VIBE_ASSIGN_OR_RETURN(const SnapshotIndex index, directory.ReadIndex());
  VIBE_RETURN_IF_ERROR(directory.CheckListed(index, id));
  // A damaged one may go. One of a newer version is not ours to judge: it may have more to remove.
  const absl::Status known = directory.ReadMetadata(id).status();
  if (!AdviceOf(known).empty()) {
    return known;
  }
  const Intent intent{.kind = Intent::Kind::kDelete,
                      .snapshot_id = id,
                      .staged = absl::StrCat("delete-", id),
                      .current_uuid = ""};
  VIBE_RETURN_IF_ERROR(directory.WriteIntent(intent));
  VIBE_FAULT_POINT("delete.intent");
  VIBE_RETURN_IF_ERROR(directory.Settle(intent, Removal::kLater).status());
  project_->sweeper.Remove(intent.staged);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> SnapshotStore::Prune(
    const RetentionLimits& limits, const std::vector<std::string>& keep) {
  VIBE_ASSIGN_OR_RETURN(const std::vector<ListedSnapshot> listed, List());
  std::vector<SnapshotMetadata> usable;
  for (const ListedSnapshot& snapshot : listed) {
    if (snapshot.problem.empty()) {
      usable.push_back(snapshot.metadata);
    }
  }
  std::vector<std::string> deleted;
  for (const std::string& id : ChooseForPruning(usable, limits, keep)) {
    const absl::Status status = Delete(id);
    if (status.ok()) {
      deleted.push_back(id);
    } else if (!absl::IsNotFound(status)) {
      return status;
    }
  }
  return deleted;
}

absl::StatusOr<bool> SnapshotStore::ChangedSinceSnapshot() {
  const ProjectDirectory& directory = project_->directory;
  VIBE_ASSIGN_OR_RETURN(const SnapshotIndex index, directory.ReadIndex());
  VIBE_ASSIGN_OR_RETURN(const UniqueFd current, OpenSubvolume(directory.fd(), kCurrent));
  VIBE_ASSIGN_OR_RETURN(const SubvolumeInfo info, GetSubvolumeInfo(current.get()));
  const std::vector<SnapshotMetadata> metadata = ReadableMetadata(directory, index);
  const SnapshotMetadata* origin = FindOrigin(metadata, info);
  if (origin == nullptr) {
    return true;
  }
  const uint64_t unchanged =
      origin->source_uuid == info.uuid ? origin->source_generation : info.origin_generation;
  if (info.change_generation > unchanged) {
    return true;
  }
  // A write that does not change a file's time, because it follows another within one tick of the
  // kernel's clock, counts when its page goes to the disk.
  VIBE_RETURN_IF_ERROR(CommitFilesystem(current.get()));
  VIBE_ASSIGN_OR_RETURN(const SubvolumeInfo written, GetSubvolumeInfo(current.get()));
  return written.change_generation > unchanged;
}

absl::StatusOr<SnapshotClone> SnapshotStore::Clone(const std::string& id) {
  const ProjectDirectory& directory = project_->directory;
  VIBE_ASSIGN_OR_RETURN(const UsableSnapshot snapshot, directory.Load(id));
  VIBE_ASSIGN_OR_RETURN(UniqueFd staging, directory.Staging());
  std::string name = absl::StrCat("clone-", RandomHex(kNameBytes));
  VIBE_RETURN_IF_ERROR(
      SnapshotSubvolume(snapshot.state.get(), staging.get(), name, SnapshotMode::kWritable));
  VIBE_FAULT_POINT("clone.made");
  std::filesystem::path path = directory.path() / kStaging / name;
  SnapshotClone clone(std::move(staging), name, UniqueFd(), std::move(path));
  VIBE_ASSIGN_OR_RETURN(clone.state_, OpenSubvolume(clone.staging_.get(), name));
  return clone;
}

absl::StatusOr<std::filesystem::path> SnapshotStore::StageDump() {
  VIBE_RETURN_IF_ERROR(project_->directory.Staging().status());
  return project_->directory.path() / kStaging / absl::StrCat("dump-", RandomHex(kNameBytes));
}

absl::StatusOr<std::filesystem::path> SnapshotStore::DumpPath(const std::string& id,
                                                              const std::string& volume) {
  VIBE_ASSIGN_OR_RETURN(const UsableSnapshot snapshot, project_->directory.Load(id));
  const auto found = snapshot.metadata.volumes.find(volume);
  if (found == snapshot.metadata.volumes.end() || found->second.dump_format.empty()) {
    return absl::NotFoundError(
        absl::StrCat("snapshot ", id, " has no dump of the volume ", volume));
  }
  return project_->directory.path() / kSnapshots / id / kDumps / absl::StrCat(volume, ".dump");
}

const SnapshotMetadata* FindOrigin(const std::vector<SnapshotMetadata>& metadata,
                                   const SubvolumeInfo& current) {
  const SnapshotMetadata* last = nullptr;
  for (const SnapshotMetadata& snapshot : metadata) {
    if (snapshot.source_uuid == current.uuid &&
        (last == nullptr || snapshot.generation > last->generation)) {
      last = &snapshot;
    }
  }
  if (last != nullptr || current.parent_uuid.empty()) {
    return last;
  }
  const auto parent = std::find_if(
      metadata.begin(), metadata.end(),
      [&](const SnapshotMetadata& one) { return one.subvolume_uuid == current.parent_uuid; });
  return parent == metadata.end() ? nullptr : &*parent;
}

std::vector<SnapshotMetadata> ReadableMetadata(const ProjectDirectory& directory,
                                               const SnapshotIndex& index) {
  std::vector<SnapshotMetadata> readable;
  for (const std::string& id : index.snapshot_ids) {
    absl::StatusOr<SnapshotMetadata> metadata = directory.ReadMetadata(id);
    if (metadata.ok()) {
      readable.push_back(*std::move(metadata));
    }
  }
  return readable;
}

}  // namespace vibe::state
