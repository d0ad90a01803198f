#include "state/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vibe::state {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

SnapshotMetadata Snapshot(const char* id, SnapshotReason reason, uint64_t generation) {
  SnapshotMetadata metadata;
  metadata.snapshot_id = id;
  metadata.reason = reason;
  metadata.generation = generation;
  return metadata;
}

std::vector<SnapshotMetadata> Mixed() {
  return {Snapshot("manual-1", SnapshotReason::kManual, 1),
          Snapshot("auto-4", SnapshotReason::kAutosave, 4),
          Snapshot("auto-2", SnapshotReason::kAutosave, 2),
          Snapshot("upgrade-3", SnapshotReason::kBeforeUpgrade, 3),
          Snapshot("restore-5", SnapshotReason::kBeforeRestore, 5)};
}

TEST(Retention, NothingGoesWithinTheLimit) {
  EXPECT_THAT(ChooseForPruning(Mixed(), {.max_snapshots = 5}, {}), IsEmpty());
}

TEST(Retention, AutosavesGoFirstOldestFirst) {
  EXPECT_THAT(ChooseForPruning(Mixed(), {.max_snapshots = 4}, {}), ElementsAre("auto-2"));
  EXPECT_THAT(ChooseForPruning(Mixed(), {.max_snapshots = 3}, {}), ElementsAre("auto-2", "auto-4"));
}

TEST(Retention, ThenTheOthersOldestFirst) {
  EXPECT_THAT(ChooseForPruning(Mixed(), {.max_snapshots = 1}, {}),
              ElementsAre("auto-2", "auto-4", "manual-1", "upgrade-3"));
}

TEST(Retention, WhatIsKeptNeverGoes) {
  EXPECT_THAT(ChooseForPruning(Mixed(), {.max_snapshots = 1}, {"auto-2", "manual-1"}),
              ElementsAre("auto-4", "upgrade-3", "restore-5"));
}

TEST(Retention, NeverTheLastOne) {
  EXPECT_THAT(
      ChooseForPruning({Snapshot("a", SnapshotReason::kAutosave, 1)}, {.max_snapshots = 0}, {}),
      IsEmpty());
}

}  // namespace
}  // namespace vibe::state
