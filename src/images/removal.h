// Inside this folder and for tests.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "containerd/client.h"

namespace vibe::images {

// The names in an order in which they can be removed: what stands on another one before it.
// Internal for parents that go round in a circle. Pure.
absl::StatusOr<std::vector<std::string>> LeafFirst(
    const std::vector<containerd::Client::SnapshotInfo>& snapshots);

}  // namespace vibe::images
