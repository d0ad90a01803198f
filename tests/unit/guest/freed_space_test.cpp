#include "init/freed_space.h"

#include <gtest/gtest.h>

namespace vibe::init {
namespace {

constexpr uint64_t kMib = 1 << 20;

// Looks at made-up free space, one look after the other.
class FreedSpaceTest : public testing::Test {
 protected:
  bool Look(uint64_t free_mib) {
    now_ += FreedSpace::kLook;
    return freed_.Due(free_mib * kMib, now_);
  }
  // Past the trim that follows the start.
  void Start() {
    while (!Look(1000)) {
      ASSERT_LE(now_ - kStart, FreedSpace::kAfterStart);
    }
  }

  static constexpr absl::Time kStart = absl::UnixEpoch();
  absl::Time now_ = kStart;
  FreedSpace freed_{1000 * kMib, kStart};
};

TEST_F(FreedSpaceTest, WhatWasFreedBeforeTheStartIsTrimmedOnceTheMachineIsUp) {
  for (int i = 1; i < FreedSpace::kAfterStart / FreedSpace::kLook; ++i) {
    EXPECT_FALSE(Look(1000));
  }
  EXPECT_TRUE(Look(1000));
  EXPECT_FALSE(Look(1000));
}

TEST_F(FreedSpaceTest, WhatIsFreedSoonAfterTheStartDoesNotWaitForThatTrim) {
  EXPECT_FALSE(Look(2000));
  EXPECT_TRUE(Look(2000));
  while (now_ - kStart < FreedSpace::kAfterStart - FreedSpace::kLook) {
    EXPECT_FALSE(Look(2000));
  }
  EXPECT_TRUE(Look(2000));
}

TEST_F(FreedSpaceTest, ATrimFollowsTheEndOfADeletion) {
  Start();
  EXPECT_FALSE(Look(2000)) << "the deletion may go on";
  EXPECT_FALSE(Look(3000));
  EXPECT_TRUE(Look(3000));
  EXPECT_FALSE(Look(3000)) << "the same space is trimmed again";
}

TEST_F(FreedSpaceTest, ADeletionWithoutAnEndIsTrimmedOnTheWay) {
  Start();
  uint64_t free = 1000;
  int looks = 1;
  while (!Look(free += 100)) {
    ASSERT_LE(++looks * FreedSpace::kLook, FreedSpace::kPatience + 2 * FreedSpace::kLook);
  }
}

TEST_F(FreedSpaceTest, LittleIsLeftToTheFileSystem) {
  Start();
  for (uint64_t free : {1010, 1020, 1063, 1063}) {
    EXPECT_FALSE(Look(free));
  }
  EXPECT_TRUE(Look(1064));
}

TEST_F(FreedSpaceTest, SpaceThatWasUsedAndFreedAgainCounts) {
  Start();
  EXPECT_FALSE(Look(200));
  EXPECT_FALSE(Look(900));
  EXPECT_TRUE(Look(900));
}

}  // namespace
}  // namespace vibe::init
