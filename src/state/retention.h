// Which snapshots go when there are too many. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "state/metadata.h"

namespace vibe::state {

struct RetentionLimits {
  size_t max_snapshots = 100;  // of all reasons; at least 1
};

// The ids to delete, in that order: autosaves, oldest first; when those are gone, manual ones and
// `before-*`, oldest first. `keep` is never chosen (the one just made, one that is being restored).
std::vector<std::string> ChooseForPruning(const std::vector<SnapshotMetadata>& snapshots,
                                          const RetentionLimits& limits,
                                          const std::vector<std::string>& keep);

}  // namespace vibe::state
