// The files of one project that the snapshot store keeps: its lock, its list, its intent, its
// snapshots' metadata. Inside this room only. Thread-safe; what changes something says whether the
// lock must be held.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "state/intent.h"
#include "state/metadata.h"

namespace vibe::state {

inline constexpr char kCurrent[] = "current";
inline constexpr char kSnapshots[] = "snapshots";
inline constexpr char kStaging[] = "staging";
inline constexpr char kState[] = "state";
inline constexpr char kDumps[] = "dumps";
inline constexpr char kMetadataFile[] = "metadata.json";
inline constexpr char kIndexFile[] = "index.json";
inline constexpr char kIntentFile[] = "intent.json";

// Held while it exists; the kernel lets go of it with the process.
class ProjectLock {
 public:
  explicit ProjectLock(UniqueFd fd) : fd_(std::move(fd)) {}

 private:
  UniqueFd fd_;
};

// Whether what is left in staging/ goes before the intent does, or is the caller's to remove.
enum class Removal { kNow, kLater };

// A snapshot that was found to be the one that it is listed as.
struct UsableSnapshot {
  SnapshotMetadata metadata;
  UniqueFd state;  // its subvolume
};

class ProjectDirectory {
 public:
  static absl::StatusOr<ProjectDirectory> Open(const std::filesystem::path& path,
                                               const std::string& project_id);

  const std::filesystem::path& path() const { return path_; }
  const std::string& project_id() const { return project_id_; }
  int fd() const { return fd_.get(); }

  // Unavailable, SAVE_IN_PROGRESS, when another holds it for longer than `wait`. A thread must not
  // take it twice. LockAndSettle also finishes or undoes what an earlier holder left half-done.
  absl::StatusOr<ProjectLock> Lock(absl::Duration wait = absl::ZeroDuration()) const;
  absl::StatusOr<ProjectLock> LockAndSettle(absl::Duration wait = absl::ZeroDuration()) const;

  absl::StatusOr<SnapshotIndex> ReadIndex() const;            // an empty one when there is no file
  absl::Status WriteIndex(const SnapshotIndex& index) const;  // with the lock
  absl::StatusOr<std::optional<Intent>> ReadIntent() const;
  absl::Status WriteIntent(const Intent& intent) const;  // with the lock
  absl::Status ClearIntent() const;                      // with the lock

  // Finishes or undoes one operation, and answers what it did. With the lock.
  absl::StatusOr<std::string> Settle(const Intent& intent, Removal removal = Removal::kNow) const;

  // NOT_FOUND when the index does not list it, SNAPSHOT_MISMATCH when it is not what it should be.
  absl::StatusOr<UsableSnapshot> Load(const std::string& id) const;
  // The same for one that the index is known to list.
  absl::StatusOr<UsableSnapshot> LoadListed(const std::string& id) const;
  absl::StatusOr<SnapshotMetadata> ReadMetadata(const std::string& id) const;
  absl::Status CheckListed(const SnapshotIndex& index, const std::string& id) const;

  // Those folders; made when they are not there.
  absl::StatusOr<UniqueFd> Snapshots() const;
  absl::StatusOr<UniqueFd> Staging() const;

  absl::Status RemoveStaged(const std::string& name) const;

 private:
  ProjectDirectory(std::filesystem::path path, std::string project_id, UniqueFd fd)
      : path_(std::move(path)), project_id_(std::move(project_id)), fd_(std::move(fd)) {}

  // They decide, and leave in staging/ what nobody needs any more.
  absl::StatusOr<std::string> SettleSave(const Intent& intent) const;
  absl::StatusOr<std::string> SettleDelete(const Intent& intent) const;
  absl::StatusOr<std::string> SettleRestore(const Intent& intent) const;

  std::filesystem::path path_;
  std::string project_id_;
  UniqueFd fd_;
};

}  // namespace vibe::state
