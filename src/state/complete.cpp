#include <fcntl.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/utf8.h"
#include "state/digest.h"
#include "state/fault.h"
#include "state/files_at.h"
#include "state/project.h"
#include "state/snapshot_store.h"
#include "state/sqlite_files.h"

namespace vibe::state {
namespace {

constexpr absl::Duration kLockWait = absl::Seconds(60);  // for a save that is under way
constexpr size_t kMaxProblem = 1'000;

std::string Shortened(absl::string_view text) {
  return ValidUtf8(text.substr(0, kMaxProblem));
}

absl::StatusOr<UniqueFd> OpenVolume(int state, const std::string& name) {
  VIBE_ASSIGN_OR_RETURN(const UniqueFd volumes, OpenDirectoryAt(state, "volumes"));
  return OpenDirectoryAt(volumes.get(), name);
}

void AddProblem(VolumeManifest& volume, absl::string_view problem) {
  absl::StrAppend(&volume.problem, volume.problem.empty() ? "" : "; ", Shortened(problem));
}

// What restores and copies of this snapshot need not look for; nullopt when there is too much of
// it.
std::optional<std::vector<std::string>> LeftOut(const StateDigest& digest) {
  std::optional<std::vector<std::string>> paths = digest.rest.omitted_paths;
  for (const auto& [name, tree] : digest.volumes) {
    if (!paths.has_value() || !tree.omitted_paths.has_value()) {
      return std::nullopt;
    }
    for (const std::string& path : *tree.omitted_paths) {
      paths->push_back(absl::StrCat("volumes/", name, "/", path));
    }
  }
  return paths;
}

// Checks every database of one volume; the first that is not "ok" is the volume's answer.
absl::Status CheckDatabases(int snapshot_volume, int clone_volume, const CompleteRequest& request,
                            VolumeManifest& volume) {
  VIBE_ASSIGN_OR_RETURN(const SqliteScan scan, FindSqliteFiles(snapshot_volume));
  SqliteWorkerOptions worker = request.sqlite_worker;
  worker.stop = request.stop;
  for (const SqliteFile& file : scan.files) {
    if (request.stop.stop_requested()) {
      return absl::CancelledError("stopped");
    }
    VIBE_ASSIGN_OR_RETURN(const std::string verdict, CheckSqliteFile(clone_volume, file, worker));
    if (verdict != "ok") {
      volume.integrity_check =
          Shortened(absl::StrCat(ValidUtf8(file.path.substr(0, 300)), ": ", verdict));
      break;
    }
    volume.integrity_check = verdict;
  }
  if (!scan.complete) {
    AddProblem(volume, "not every database was looked for: there are too many files");
  }
  return absl::OkStatus();
}

bool HasSqliteVolume(const SnapshotMetadata& metadata) {
  for (const auto& [name, volume] : metadata.volumes) {
    if (volume.consistency == Consistency::kSqlite && !volume.digest.empty()) {
      return true;
    }
  }
  return false;
}

// What became of a Postgres volume's dump, before it is moved.
void NoteDump(const std::string& name, const CompleteRequest& request, VolumeManifest& volume) {
  const auto dump = request.dumps.find(name);
  if (dump != request.dumps.end() && dump->second.ok()) {
    volume.dump_format = "pg_dump_custom";
    return;
  }
  volume.raw_only = true;
  AddProblem(volume,
             dump == request.dumps.end() ? "no dump was made" : dump->second.status().message());
}

absl::Status TakeDump(const ProjectDirectory& directory, const std::string& id,
                      const std::string& name, const std::filesystem::path& dump) {
  VIBE_ASSIGN_OR_RETURN(const UniqueFd file_folder,
                        OpenDirectoryAt(AT_FDCWD, dump.parent_path().string()));
  const UniqueFd file(::openat(file_folder.get(), dump.filename().c_str(),
                               O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file.valid() || ::fsync(file.get()) != 0) {
    return ErrnoError(errno, absl::StrCat("read the dump of the volume ", name));
  }
  VIBE_ASSIGN_OR_RETURN(const UniqueFd folder,
                        OpenDirectoryAt(directory.fd(), absl::StrCat(kSnapshots, "/", id)));
  VIBE_ASSIGN_OR_RETURN(const UniqueFd dumps, EnsureDirectoryAt(folder.get(), kDumps));
  const std::string target = absl::StrCat(name, ".dump");
  // One of an earlier try that a crash ended before the metadata said so.
  VIBE_RETURN_IF_ERROR(RemoveFileAt(dumps.get(), target));
  return MoveAt(file_folder.get(), dump.filename(), dumps.get(), target);
}

}  // namespace

absl::StatusOr<SnapshotMetadata> SnapshotStore::Complete(const std::string& id,
                                                         const CompleteRequest& request) {
  const ProjectDirectory& directory = project_->directory;
  VIBE_ASSIGN_OR_RETURN(UsableSnapshot snapshot, directory.Load(id));
  SnapshotMetadata& metadata = snapshot.metadata;
  if (metadata.complete) {
    return metadata;
  }
  VIBE_ASSIGN_OR_RETURN(const StateDigest digest, DigestState(snapshot.state.get(), request.stop));
  metadata.state_digest = digest.digest;
  metadata.size_bytes = digest.rest.size_bytes;
  metadata.left_out = LeftOut(digest);
  for (const auto& [name, tree] : digest.volumes) {
    metadata.size_bytes += tree.size_bytes;
    const auto volume = metadata.volumes.find(name);
    if (volume != metadata.volumes.end()) {
      volume->second.digest = tree.digest;
      volume->second.size_bytes = tree.size_bytes;
      if (tree.nested_subvolumes > 0) {
        AddProblem(volume->second, absl::StrCat(tree.nested_subvolumes,
                                                " btrfs subvolumes in it are not in the snapshot"));
      }
    }
  }
  std::optional<SnapshotClone> clone;
  if (HasSqliteVolume(metadata)) {
    VIBE_ASSIGN_OR_RETURN(SnapshotClone made, Clone(id));
    clone.emplace(std::move(made));
  }
  for (auto& [name, volume] : metadata.volumes) {
    if (volume.consistency == Consistency::kPostgres) {
      NoteDump(name, request, volume);
    } else if (volume.consistency == Consistency::kSqlite && !volume.digest.empty()) {
      VIBE_ASSIGN_OR_RETURN(const UniqueFd read, OpenVolume(snapshot.state.get(), name));
      VIBE_ASSIGN_OR_RETURN(const UniqueFd write, OpenVolume(clone->fd(), name));
      VIBE_RETURN_IF_ERROR(CheckDatabases(read.get(), write.get(), request, volume));
    }
  }
  clone.reset();
  VIBE_FAULT_POINT("complete.computed");

  metadata.complete = true;
  if (!CheckMetadata(metadata).ok()) {
    metadata.left_out.reset();  // the volumes' paths together may be too many
  }
  VIBE_RETURN_IF_ERROR(CheckMetadata(metadata));
  VIBE_ASSIGN_OR_RETURN(const ProjectLock lock, directory.LockAndSettle(kLockWait));
  VIBE_ASSIGN_OR_RETURN(const UsableSnapshot still, directory.Load(id));
  if (still.metadata.complete) {
    return still.metadata;
  }
  for (const auto& [name, volume] : metadata.volumes) {
    if (!volume.dump_format.empty()) {
      VIBE_RETURN_IF_ERROR(TakeDump(directory, id, name, *request.dumps.at(name)));
      VIBE_FAULT_POINT("complete.dump");
    }
  }
  VIBE_ASSIGN_OR_RETURN(const UniqueFd folder,
                        OpenDirectoryAt(directory.fd(), absl::StrCat(kSnapshots, "/", id)));
  VIBE_RETURN_IF_ERROR(ReplaceFileAt(folder.get(), kMetadataFile, MetadataToJson(metadata)));
  VIBE_FAULT_POINT("complete.done");
  return metadata;
}

}  // namespace vibe::state
