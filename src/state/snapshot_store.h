// The snapshots of one project, on btrfs. A crash at any instant, of the process or of the machine,
// leaves `current` and every listed snapshot whole; Recover() finishes or undoes what was under
// way. docs/formats/state.md has the layout, the steps and what Recover makes of each.
//
//   <project>/current/                    subvolume: the live state
//   <project>/snapshots/ID/state/         read-only subvolume
//   <project>/snapshots/ID/metadata.json
//   <project>/snapshots/ID/dumps/VOLUME.dump
//   <project>/index.json                  the list
//   <project>/intent.json                 what is under way
//   <project>/staging/                    what is being made or removed; nothing in it is ever
//   needed
//
// Thread-safe. Save, Restore, Duplicate, Delete and Complete's last step exclude each other, in
// this process and between processes, by a lock that ends with its holder (flock on the project's
// directory); who finds it taken gets Unavailable with SAVE_IN_PROGRESS at once. All calls block
// for the disk. A full disk is ResourceExhausted with DISK_LOW.
//
// Errors about an id name it: NOT_FOUND when this project does not list it; SNAPSHOT_MISMATCH when
// its subvolume is missing or another one, or when it is another project's or of a newer version of
// the program. A damaged index.json is DataLoss, SNAPSHOT_MISMATCH: every call but Recover refuses,
// and changes nothing.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "state/metadata.h"
#include "state/retention.h"
#include "state/sqlite_files.h"

namespace vibe::state {

// What happens around the instant. quiesce stops the app's writes as far as its kind can
// (CHECKPOINT, freezing cgroups); thaw lets it go on, and is called exactly once whenever quiesce
// was, also when quiesce failed. Either may be empty. The time from the call of quiesce to the
// return of thaw is the pause; all that was written before is flushed before quiesce, so that it is
// short.
struct QuiesceHooks {
  std::function<absl::Status()> quiesce = {};
  std::function<void()> thaw = {};
};

struct SaveRequest {
  std::string snapshot_id = {};  // a new UUID, for who records it before; empty: one is made
  SnapshotReason reason = SnapshotReason::kManual;
  std::string app_version = {};
  std::string message = {};
  std::map<std::string, std::string> labels = {};
  std::map<std::string, Consistency> volumes = {};  // every volume of the manifest
  absl::Duration pre_save = absl::ZeroDuration();   // as in SnapshotMetadata
  std::vector<std::string> warnings = {};
  QuiesceHooks hooks = {};
};

// A snapshot as it is listed. `problem` is empty, or says why it cannot be restored (its metadata
// is unreadable or from a newer version, its subvolume is missing); then of the metadata only
// snapshot_id is sure.
struct ListedSnapshot {
  SnapshotMetadata metadata;
  std::string problem;
};

struct RecoveryReport {
  std::vector<std::string> actions;     // one line each, for the log; empty: nothing was to do
  std::vector<std::string> incomplete;  // ids whose Complete did not run to its end
  bool has_current = false;  // false: a duplicate that never came to be, or a new project
};

// A writable clone of a snapshot in staging/, which is destroyed with this object; a crash leaves
// it to Recover. One thread at a time; it must not outlive its store.
class SnapshotClone {
 public:
  SnapshotClone(SnapshotClone&&) noexcept = default;
  SnapshotClone& operator=(SnapshotClone&&) noexcept;
  ~SnapshotClone();
  const std::filesystem::path& path() const { return path_; }
  int fd() const { return state_.get(); }  // of the subvolume's root; stays this object's

 private:
  friend class SnapshotStore;
  SnapshotClone(UniqueFd staging, std::string name, UniqueFd state, std::filesystem::path path);
  void Destroy();
  UniqueFd staging_;
  std::string name_;
  UniqueFd state_;
  std::filesystem::path path_;
};

// What is found out about a snapshot after it was taken, without a pause.
struct CompleteRequest {
  std::stop_token stop = {};
  // For each database; its `stop` is the one above. A database of many GiB takes minutes.
  SqliteWorkerOptions sqlite_worker = {.timeout = absl::Minutes(10)};
  // Per Postgres volume: the path of a finished dump on the same file system (from StageDump),
  // which is moved into the snapshot, or why there is none.
  std::map<std::string, absl::StatusOr<std::filesystem::path>> dumps = {};
};

struct RestoreRequest {
  std::string snapshot_id = {};
  std::stop_token stop = {};  // looked at while preparing only
  // Changes the clone before it becomes `current` (loading a dump into a newer Postgres); its error
  // undoes the restore. May be empty.
  std::function<absl::Status(const std::filesystem::path& state)> prepare = {};
};

struct DuplicateRequest {
  std::string snapshot_id = {};       // empty: the live state, at an instant, with `hooks`
  std::filesystem::path target = {};  // directory of the new project; its parent must exist
  std::string target_project_id = {};
  QuiesceHooks hooks = {};
  std::function<absl::Status(const std::filesystem::path& state)> prepare =
      {};  // as in RestoreRequest
};

class SnapshotStore {
 public:
  // `directory` is the project's (<data>/projects/ID) and must exist, on btrfs; else
  // FailedPrecondition. Changes nothing: call Recover once when the supervisor starts, before any
  // other call and while no other process uses the project, then use the store.
  static absl::StatusOr<std::unique_ptr<SnapshotStore>> Open(const std::filesystem::path& directory,
                                                             const std::string& project_id);
  ~SnapshotStore();

  // Makes `current` an empty subvolume when there is none; a plain folder of that name is
  // FailedPrecondition. For new projects.
  absl::Status EnsureCurrent();

  // Finishes or undoes what was under way, empties staging/, rebuilds a damaged index.json from the
  // snapshots' own metadata, lists what is there and is not listed. Never removes a snapshot that
  // was once listed, unless its deletion had begun: what was damaged from outside stays listed,
  // with its problem. Refuses (FailedPrecondition, SNAPSHOT_MISMATCH) when index.json or
  // intent.json is from a newer version, and changes nothing then. A second call does nothing.
  absl::StatusOr<RecoveryReport> Recover();

  // All volumes at one instant. The snapshot is on the disk and listed when it returns; its digests
  // and checks are not known before Complete. SAVE_FAILED, naming it, when there is a subvolume
  // inside `current`: a snapshot would silently be without it.
  absl::StatusOr<SnapshotMetadata> Save(const SaveRequest& request);
  // What Save would refuse of the request itself, before anything is done for it.
  absl::Status CheckRequest(const SaveRequest& request) const;

  // Reads the snapshot (no lock is held), computes digests, checks its SQLite databases on a clone,
  // takes in the dumps, and completes its metadata. May be called again after a crash; a complete
  // snapshot is left alone. Cancelled when asked to stop: nothing changed.
  absl::StatusOr<SnapshotMetadata> Complete(const std::string& id, const CompleteRequest& request);

  absl::StatusOr<std::vector<ListedSnapshot>> List();  // newest first
  absl::StatusOr<SnapshotMetadata> Get(const std::string& id);
  absl::Status Delete(const std::string& id);

  // Compares every byte with the snapshot's digest. SNAPSHOT_MISMATCH; FailedPrecondition until the
  // snapshot is complete.
  absl::Status Verify(const std::string& id, std::stop_token stop = {}) const;
  // The root of the snapshot's read-only state. It may be deleted at any time.
  std::filesystem::path StatePath(const std::string& id) const;

  // Puts a clone of the snapshot in the place of `current`, in one step. The services must be
  // stopped. An error leaves the old `current`. RESTORE_FAILED, SNAPSHOT_MISMATCH.
  absl::Status Restore(const RestoreRequest& request);

  // A new project's directory with `current` alone; no snapshots, no index. AlreadyExists, CONFLICT
  // when the target has a `current` already. An error leaves no `current` there.
  absl::Status Duplicate(const DuplicateRequest& request);

  // Deletes what ChooseForPruning chooses; the ids that went. Snapshots with a problem are not
  // touched.
  absl::StatusOr<std::vector<std::string>> Prune(const RetentionLimits& limits,
                                                 const std::vector<std::string>& keep = {});

  // Whether a file of `current` was changed since the snapshot that it came from: the file system's
  // own generation says so. True when there is no snapshot. Writes that a program has not handed
  // to the kernel do not count; reading counts where access times are on (mount with noatime).
  absl::StatusOr<bool> ChangedSinceSnapshot();

  // For work on a snapshot that must not change it: a Postgres for a dump, an integrity check.
  absl::StatusOr<SnapshotClone> Clone(const std::string& id);

  // A path in staging/ that is not taken, for a file to be handed to Complete.
  absl::StatusOr<std::filesystem::path> StageDump();

  // The dump of a volume; NotFound when the snapshot has none.
  absl::StatusOr<std::filesystem::path> DumpPath(const std::string& id, const std::string& volume);

 private:
  struct Project;
  explicit SnapshotStore(std::unique_ptr<Project> project);
  const std::unique_ptr<Project> project_;
};

}  // namespace vibe::state
