#include "base/subprocess.h"

#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"

namespace vibe {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Subprocess, GivesItsInputOutputAndExitCode) {
  const auto result =
      RunSubprocess({.args = {"sh", "-c", "cat; echo to stderr >&2; exit 7"}, .input = "to stdin"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out, "to stdin");
  EXPECT_EQ(result->err, "to stderr\n");
  EXPECT_EQ(result->exit_code, 7);
}

TEST(Subprocess, TellsTheSignalThatEndedIt) {
  const auto result = RunSubprocess({.args = {"sh", "-c", "kill -KILL $$"}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->exit_code, 128 + 9);
}

TEST(Subprocess, SaysWhenThereIsNoSuchProgram) {
  const auto result = RunSubprocess({.args = {"/no/such/program"}});
  EXPECT_TRUE(absl::IsNotFound(result.status())) << result.status();
  EXPECT_THAT(result.status().message(), HasSubstr("/no/such/program"));
}

TEST(Subprocess, SeesOurEnvironmentAndWhatIsAdded) {
  ::setenv("VIBE_TEST_KEPT", "kept", 1);
  ::setenv("VIBE_TEST_CHANGED", "old", 1);
  const auto result = RunSubprocess(
      {.args = {"env"}, .env = {{"VIBE_TEST_CHANGED", "new"}, {"VIBE_TEST_ADDED", "a=b c"}}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->out, HasSubstr("VIBE_TEST_KEPT=kept\n"));
  EXPECT_THAT(result->out, HasSubstr("VIBE_TEST_CHANGED=new\n"));
  EXPECT_THAT(result->out, HasSubstr("VIBE_TEST_ADDED=a=b c\n"));
  EXPECT_THAT(result->out, Not(HasSubstr("=old")));
}

TEST(Subprocess, EndsAfterItsTime) {
  const absl::Time start = absl::Now();
  const auto result = RunSubprocess({.args = {"sleep", "60"}, .timeout = absl::Milliseconds(100)});
  EXPECT_TRUE(absl::IsDeadlineExceeded(result.status())) << result.status();
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

// It may close its output and go on.
TEST(Subprocess, EndsAfterItsTimeThoughItClosedItsOutput) {
  const absl::Time start = absl::Now();
  const auto result = RunSubprocess(
      {.args = {"sh", "-c", "exec >&- 2>&-; exec sleep 60"}, .timeout = absl::Milliseconds(300)});
  EXPECT_TRUE(absl::IsDeadlineExceeded(result.status())) << result.status();
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST(Subprocess, CutsOutputOffAtTheLimit) {
  const auto result =
      RunSubprocess({.args = {"sh", "-c", "head -c 1000000 /dev/zero; head -c 5 /dev/zero >&2"},
                     .max_output = 1000});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out.size(), 1000U);
  EXPECT_EQ(result->err.size(), 5U);
  EXPECT_EQ(result->exit_code, 0) << "it must not fail because we stopped listening";
}

TEST(Subprocess, TakesALargeInputOrNone) {
  const std::string input(5 << 20, 'x');
  const auto all = RunSubprocess({.args = {"cat"}, .input = input, .max_output = 10 << 20});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->out.size(), input.size());
  const auto none = RunSubprocess({.args = {"true"}, .input = input});
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(none->exit_code, 0);
}

size_t OpenDescriptors() {
  size_t count = 0;
  DIR* directory = ::opendir("/proc/self/fd");
  for (; directory != nullptr && ::readdir(directory) != nullptr; ++count) {
  }
  if (directory != nullptr) {
    ::closedir(directory);
  }
  return count;
}

TEST(Subprocess, LeavesNoDescriptorOpen) {
  ASSERT_TRUE(RunSubprocess({.args = {"true"}}).ok());
  const size_t before = OpenDescriptors();
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(RunSubprocess({.args = {"true"}, .input = "x"}).ok());
    ASSERT_FALSE(RunSubprocess({.args = {"/no/such/program"}}).ok());
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

}  // namespace
}  // namespace vibe
