#include "state/retention.h"

#include <algorithm>
#include <tuple>

namespace vibe::state {

std::vector<std::string> ChooseForPruning(const std::vector<SnapshotMetadata>& snapshots,
                                          const RetentionLimits& limits,
                                          const std::vector<std::string>& keep) {
  const size_t allowed = std::max<size_t>(1, limits.max_snapshots);
  if (snapshots.size() <= allowed) {
    return {};
  }
  std::vector<const SnapshotMetadata*> candidates;
  for (const SnapshotMetadata& snapshot : snapshots) {
    if (std::find(keep.begin(), keep.end(), snapshot.snapshot_id) == keep.end()) {
      candidates.push_back(&snapshot);
    }
  }
  // The file system's generation orders them also when the clock was set back.
  std::sort(candidates.begin(), candidates.end(), [](const auto* a, const auto* b) {
    const bool a_stays = a->reason != SnapshotReason::kAutosave;
    const bool b_stays = b->reason != SnapshotReason::kAutosave;
    return std::tie(a_stays, a->generation, a->snapshot_id) <
           std::tie(b_stays, b->generation, b->snapshot_id);
  });
  candidates.resize(std::min(candidates.size(), snapshots.size() - allowed));
  std::vector<std::string> chosen;
  for (const SnapshotMetadata* snapshot : candidates) {
    chosen.push_back(snapshot->snapshot_id);
  }
  return chosen;
}

}  // namespace vibe::state
