#include "supervisor/autosave.h"

#include <gtest/gtest.h>

namespace vibe::supervisor {
namespace {

constexpr absl::Duration kDebounce = absl::Seconds(30);
const absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);

TEST(AutosaveClock, SavesWhenNothingChangedForAWhile) {
  AutosaveClock clock;
  EXPECT_FALSE(clock.Tick(kStart, true, 1, kDebounce));
  EXPECT_FALSE(clock.Tick(kStart + absl::Seconds(29), true, 1, kDebounce));
  EXPECT_TRUE(clock.Tick(kStart + absl::Seconds(30), true, 1, kDebounce));
}

TEST(AutosaveClock, AChangeBeginsTheQuietTimeAnew) {
  AutosaveClock clock;
  clock.Tick(kStart, true, 1, kDebounce);
  EXPECT_FALSE(clock.Tick(kStart + absl::Seconds(29), true, 2, kDebounce));
  EXPECT_FALSE(clock.Tick(kStart + absl::Seconds(58), true, 2, kDebounce));
  EXPECT_TRUE(clock.Tick(kStart + absl::Seconds(59), true, 2, kDebounce));
}

TEST(AutosaveClock, AnAppThatNeverRestsIsSavedToo) {
  AutosaveClock clock;
  absl::Time now = kStart;
  uint64_t change = 0;
  while (!clock.Tick(now, true, ++change, kDebounce)) {
    now += absl::Seconds(5);
    ASSERT_LT(now, kStart + absl::Hours(1)) << "the data of a busy app is never saved";
  }
  EXPECT_GE(now, kStart + absl::Minutes(5)) << "a busy app is saved too often";
}

TEST(AutosaveClock, NothingChangedIsNothingToSave) {
  AutosaveClock clock;
  clock.Tick(kStart, true, 1, kDebounce);
  EXPECT_FALSE(clock.Tick(kStart + absl::Hours(1), false, 1, kDebounce));
  EXPECT_FALSE(clock.Tick(kStart + absl::Hours(1), true, 2, kDebounce)) << "without a quiet time";
}

TEST(AutosaveClock, ATryThatFailedIsNotRepeatedAtOnce) {
  AutosaveClock clock;
  clock.Tick(kStart, true, 1, kDebounce);
  const absl::Time due = kStart + kDebounce;
  EXPECT_TRUE(clock.Tick(due, true, 1, kDebounce));
  clock.Saved(due);
  EXPECT_FALSE(clock.Tick(due + absl::Seconds(2), true, 1, kDebounce));
  EXPECT_TRUE(clock.Tick(due + absl::Seconds(32), true, 1, kDebounce));
}

}  // namespace
}  // namespace vibe::supervisor
