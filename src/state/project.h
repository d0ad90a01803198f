// What is behind a SnapshotStore, for its parts. Inside this room only.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "state/project_directory.h"
#include "state/snapshot_store.h"
#include "state/subvolume.h"
#include "state/sweeper.h"

namespace vibe::state {

struct SnapshotStore::Project {
  explicit Project(ProjectDirectory opened)
      : directory(std::move(opened)), sweeper(directory.fd()) {}
  ProjectDirectory directory;
  Sweeper sweeper;
};

// The id of the snapshot that `current` came from: the last one taken of it, else the one it was
// cloned from; empty when there is none. `metadata` are the project's readable snapshots.
const SnapshotMetadata* FindOrigin(const std::vector<SnapshotMetadata>& metadata,
                                   const SubvolumeInfo& current);

// The metadata that can be read of those listed; what cannot is left out.
std::vector<SnapshotMetadata> ReadableMetadata(const ProjectDirectory& directory,
                                               const SnapshotIndex& index);

// SAVE_FAILED, naming it, when there is a subvolume in this one.
absl::Status RefuseNested(int subvolume);

// Calls the hooks around `instant`, and measures. `thaw` is called whenever `quiesce` was.
absl::Status WithPause(const QuiesceHooks& hooks, const std::function<absl::Status()>& instant,
                       absl::Duration& pause);

}  // namespace vibe::state
