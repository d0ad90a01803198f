// What of the Mac's machine is plain C++ and runs everywhere: its size, its console's log, and how
// answers that come late are dealt with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/unique_fd.h"
#include "vm/vz/completion.h"
#include "vm/vz/console_log.h"
#include "vm/vz/power.h"
#include "vm/vz/resources.h"

namespace vibe::vm::vz {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1024 * kMiB;
constexpr ResourceLimits kLimits = {
    .min_cpus = 1, .max_cpus = 6, .min_memory_bytes = 4 * kMiB, .max_memory_bytes = 12 * kGiB};

TEST(VzResourcesTest, WhatTheMacAllowsIsAllowed) {
  EXPECT_TRUE(CheckResources({.cpus = 1, .memory_mib = 4}, kLimits).ok());
  EXPECT_TRUE(CheckResources({.cpus = 6, .memory_mib = 12288}, kLimits).ok());
  ResourceLimits odd = kLimits;
  odd.max_memory_bytes = 2 * kGiB + 1;
  EXPECT_TRUE(CheckResources({.cpus = 1, .memory_mib = 2048}, odd).ok());
  EXPECT_FALSE(CheckResources({.cpus = 1, .memory_mib = 2049}, odd).ok());
}

TEST(VzResourcesTest, MoreThanTheMacAllowsIsRefusedWithTheBounds) {
  EXPECT_THAT(std::string(CheckResources({.cpus = 7, .memory_mib = 1024}, kLimits).message()),
              HasSubstr("1 to 6"));
  EXPECT_THAT(std::string(CheckResources({.cpus = 1, .memory_mib = 12289}, kLimits).message()),
              HasSubstr("4 to 12288"));
}

TEST(VzMacAddressTest, IsTheSameAtEveryBootAndAnothersIsNot) {
  const std::string address = StableMacAddress("/Users/ada/.vibe/machine/vz");
  EXPECT_THAT(address, MatchesRegex("02(:[0-9a-f][0-9a-f]){5}"));
  EXPECT_EQ(address, StableMacAddress("/Users/ada/.vibe/machine/vz"));
  EXPECT_NE(address, StableMacAddress("/Users/grace/.vibe/machine/vz"));
}

TEST(VzCompletionTest, AnAnswerIsWaitedForAndTheFirstCounts) {
  Completion<absl::Status> completion;
  std::thread answer([&] {
    absl::SleepFor(absl::Milliseconds(20));
    completion.Finish(absl::NotFoundError("first"));
    completion.Finish(absl::OkStatus());
  });
  EXPECT_EQ(completion.Await(absl::Seconds(30), "ask"), absl::NotFoundError("first"));
  answer.join();
}

TEST(VzCompletionTest, ALateConnectionIsClosedAndNotLeaked) {
  int fds[2];
  ASSERT_EQ(::pipe(fds), 0);
  const UniqueFd reader(fds[0]);
  auto completion = std::make_shared<Completion<absl::StatusOr<UniqueFd>>>();
  const auto result = completion->Await(absl::Milliseconds(1), "connect to port 7");
  EXPECT_TRUE(absl::IsDeadlineExceeded(result.status()));
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("connect to port 7"));
  completion->Finish(UniqueFd(fds[1]));
  completion.reset();
  char byte = 0;
  EXPECT_EQ(::read(reader.get(), &byte, 1), 0) << "the other end is still open";
}

TEST(VzPowerTest, WhatWentOffStaysOff) {
  Power power;
  EXPECT_EQ(power.state(), PowerState::kOff);
  EXPECT_FALSE(power.AwaitOff(absl::ZeroDuration())) << "it has not been on yet";
  power.Set(PowerState::kOn);
  power.Set(PowerState::kOff);
  power.Set(PowerState::kPaused);  // the late answer to a pause
  EXPECT_EQ(power.state(), PowerState::kOff);
  EXPECT_TRUE(power.AwaitOff(absl::ZeroDuration()));
}

class VzConsoleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "console-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ / "console.log";
  }
  void TearDown() override { fs::remove_all(folder_); }
  static void Say(const UniqueFd& writer, const std::string& text) {
    ASSERT_EQ(::write(writer.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  fs::path folder_, path_;
};

TEST_F(VzConsoleTest, WhatTheKernelSaidLastIsThere) {
  {
    auto log = ConsoleLog::Open(path_, 1 << 20);
    ASSERT_TRUE(log.ok()) << log.status();
    const UniqueFd writer = (*log)->TakeWriter();
    Say(writer, "one\r\ntwo\nKernel panic - not syncing");
    // The writer is still open: the guest's device outlives the log.
    log->reset();
  }
  EXPECT_THAT(LastConsoleLines(path_, 2), ElementsAre("two", "Kernel panic - not syncing"));
}

TEST_F(VzConsoleTest, AGuestThatNeverStopsTalkingFillsNoDisk) {
  auto log = ConsoleLog::Open(path_, 64 << 10);
  ASSERT_TRUE(log.ok()) << log.status();
  {
    const UniqueFd writer = (*log)->TakeWriter();
    for (int i = 0; i < 20'000; ++i) {
      Say(writer, absl::StrCat("line ", i, " of a guest that has a lot to say\n"));
    }
    Say(writer, std::string(100'000, 'x') + "\nlast\n");
  }
  // The guest's words are read by a thread of the log's own; the note comes behind them.
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (absl::Now() < deadline && LastConsoleLines(path_, 1) != std::vector<std::string>{"last"}) {
    absl::SleepFor(absl::Milliseconds(2));
  }
  (*log)->Note("the machine powered off");
  log->reset();
  uintmax_t bytes = 0;
  for (const auto& file : fs::directory_iterator(folder_)) {
    bytes += file.file_size();
  }
  EXPECT_LE(bytes, 2 * (64u << 10) + (16u << 10));
  EXPECT_THAT(LastConsoleLines(path_, 2), ElementsAre("last", "vibe: the machine powered off"));
}

TEST_F(VzConsoleTest, NoLogIsNoLines) {
  EXPECT_TRUE(LastConsoleLines(path_, 10).empty());
}

}  // namespace
}  // namespace vibe::vm::vz
