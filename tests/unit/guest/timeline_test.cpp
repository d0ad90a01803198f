#include "init/guest/timeline.h"

#include <gtest/gtest.h>

namespace vibe::init::guest {
namespace {

TEST(Timeline, StepsInTheOrderInWhichTheyWereDone) {
  Timeline timeline;
  timeline.Mark("kernel", 1.625);
  timeline.Mark("disk", 3.0);
  timeline.Mark("network", 2.2);
  EXPECT_EQ(timeline.Text(), "kernel 1.62 network 2.20 disk 3.00");
}

TEST(Timeline, TheClockStartsWithTheKernel) {
  EXPECT_GT(SecondsSinceBoot(), 0);
}

}  // namespace
}  // namespace vibe::init::guest
