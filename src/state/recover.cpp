#include <algorithm>
#include <set>
#include <tuple>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "state/fault.h"
#include "state/files_at.h"
#include "state/project.h"
#include "state/snapshot_store.h"

namespace vibe::state {
namespace {

class Recovery {
 public:
  explicit Recovery(const ProjectDirectory& directory) : directory_(directory) {}

  absl::StatusOr<RecoveryReport> Run() {
    VIBE_ASSIGN_OR_RETURN(const ProjectLock lock, directory_.Lock());
    // First all that can refuse, then what changes something.
    absl::StatusOr<std::optional<Intent>> intent = directory_.ReadIntent();
    if (!intent.ok() && !absl::IsDataLoss(intent.status())) {
      return intent.status();
    }
    VIBE_RETURN_IF_ERROR(ReadListed());
    VIBE_RETURN_IF_ERROR(FindPresent());
    VIBE_RETURN_IF_ERROR(RebuildIndex());
    VIBE_FAULT_POINT("recover.index");
    if (!intent.ok()) {
      // Whatever was meant: all that is listed is there, and nothing in staging/ is needed.
      VIBE_RETURN_IF_ERROR(directory_.ClearIntent());
      Did("removed a damaged intent.json");
    } else if (intent->has_value()) {
      VIBE_ASSIGN_OR_RETURN(std::string what, directory_.Settle(**intent));
      Did(std::move(what));
    }
    VIBE_FAULT_POINT("recover.settled");
    VIBE_RETURN_IF_ERROR(ListUnlisted(intent.ok() ? *intent : std::nullopt));
    VIBE_RETURN_IF_ERROR(EmptyStaging());
    VIBE_RETURN_IF_ERROR(RemoveTemporaries());
    return Report();
  }

 private:
  void Did(std::string what) { report_.actions.push_back(std::move(what)); }

  absl::Status ReadListed() {
    absl::StatusOr<SnapshotIndex> index = directory_.ReadIndex();
    if (index.ok()) {
      return absl::OkStatus();
    }
    damaged_ = absl::IsDataLoss(index.status());
    return damaged_ ? absl::OkStatus() : index.status();
  }

  absl::Status FindPresent() {
    const absl::StatusOr<UniqueFd> snapshots = OpenDirectoryAt(directory_.fd(), kSnapshots);
    if (!snapshots.ok()) {
      return absl::IsNotFound(snapshots.status()) ? absl::OkStatus() : snapshots.status();
    }
    VIBE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListAt(snapshots->get()));
    std::vector<std::tuple<uint64_t, std::string>> present;
    for (const std::string& name : names) {
      if (IsSnapshotId(name)) {
        // The unreadable ones first: they get the place of the oldest.
        const absl::StatusOr<SnapshotMetadata> metadata = directory_.ReadMetadata(name);
        present.emplace_back(metadata.ok() ? metadata->generation : 0, name);
      }
    }
    std::sort(present.begin(), present.end());
    for (const auto& [generation, id] : present) {
      present_.push_back(id);
    }
    if (present_.size() > kMaxSnapshots) {
      return absl::ResourceExhaustedError(absl::StrCat("project ", directory_.project_id(), " has ",
                                                       present_.size(), " snapshots; at most ",
                                                       kMaxSnapshots, " can be listed"));
    }
    return absl::OkStatus();
  }

  // Only what the snapshots themselves say, since nothing else is known.
  absl::Status RebuildIndex() {
    if (!damaged_) {
      return absl::OkStatus();
    }
    VIBE_RETURN_IF_ERROR(directory_.WriteIndex({directory_.project_id(), present_}));
    Did(absl::StrCat("rebuilt a damaged index.json from ", present_.size(), " snapshots"));
    return absl::OkStatus();
  }

  // Snapshots that are whole and not listed: of an index that was lost, say.
  absl::Status ListUnlisted(const std::optional<Intent>& settled) {
    VIBE_ASSIGN_OR_RETURN(SnapshotIndex index, directory_.ReadIndex());
    const std::set<std::string> known(index.snapshot_ids.begin(), index.snapshot_ids.end());
    const size_t before = index.snapshot_ids.size();
    for (const std::string& id : present_) {
      const bool deleted = settled.has_value() && settled->kind == Intent::Kind::kDelete &&
                           settled->snapshot_id == id;
      if (known.count(id) == 0 && !deleted) {
        index.snapshot_ids.push_back(id);
        Did(absl::StrCat("listed snapshot ", id, ", which was there and not listed"));
      }
    }
    return index.snapshot_ids.size() == before ? absl::OkStatus() : directory_.WriteIndex(index);
  }

  absl::Status EmptyStaging() {
    const absl::StatusOr<UniqueFd> staging = OpenDirectoryAt(directory_.fd(), kStaging);
    if (!staging.ok()) {
      return absl::IsNotFound(staging.status()) ? absl::OkStatus() : staging.status();
    }
    VIBE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListAt(staging->get()));
    for (const std::string& name : names) {
      VIBE_RETURN_IF_ERROR(directory_.RemoveStaged(name));
      Did(absl::StrCat("removed staging/", absl::CHexEscape(name.substr(0, 100))));
      VIBE_FAULT_POINT("recover.removed");
    }
    return absl::OkStatus();
  }

  absl::Status RemoveTemporaries() {
    for (const char* name : {kIndexFile, kIntentFile}) {
      VIBE_RETURN_IF_ERROR(RemoveTemporary(directory_.fd(), name));
    }
    for (const std::string& id : present_) {
      const absl::StatusOr<UniqueFd> folder =
          OpenDirectoryAt(directory_.fd(), absl::StrCat(kSnapshots, "/", id));
      if (folder.ok()) {
        VIBE_RETURN_IF_ERROR(RemoveTemporary(folder->get(), kMetadataFile));
      }
    }
    return absl::OkStatus();
  }

  absl::Status RemoveTemporary(int folder, const char* name) {
    const std::string temporary = TemporaryName(name);
    VIBE_ASSIGN_OR_RETURN(const bool exists, ExistsAt(folder, temporary));
    if (exists) {
      VIBE_RETURN_IF_ERROR(RemoveFileAt(folder, temporary));
      Did(absl::StrCat("removed ", temporary));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<RecoveryReport> Report() {
    VIBE_ASSIGN_OR_RETURN(const SnapshotIndex index, directory_.ReadIndex());
    for (const SnapshotMetadata& metadata : ReadableMetadata(directory_, index)) {
      if (!metadata.complete) {
        report_.incomplete.push_back(metadata.snapshot_id);
      }
    }
    const absl::StatusOr<bool> current = IsSubvolume(directory_.fd(), kCurrent);
    report_.has_current = current.ok() && *current;
    return std::move(report_);
  }

  const ProjectDirectory& directory_;
  RecoveryReport report_;
  bool damaged_ = false;
  std::vector<std::string> present_;  // oldest first
};

}  // namespace

absl::StatusOr<RecoveryReport> SnapshotStore::Recover() {
  return Recovery(project_->directory).Run();
}

}  // namespace vibe::state
