// What the native machine is made of, as far as it is pure.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "init/backoff.h"
#include "init/command_lines.h"
#include "vm/backends.h"
#include "vm/native/cgroup.h"
#include "vm/native/layout.h"
#include "vm/native/run_record.h"

namespace vibe::vm::native {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CgroupHierarchiesTest, PlainVersion2) {
  const auto hierarchies = ParseMountInfo(
      "25 30 0:23 / /sys rw,nosuid - sysfs sysfs rw\n"
      "29 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
  EXPECT_THAT(hierarchies, ElementsAre(CgroupHierarchy{"/sys/fs/cgroup", true, ""}));
  EXPECT_TRUE(IsUnified(hierarchies));
}

TEST(CgroupHierarchiesTest, Version1WithAVersion2TreeBesideIt) {
  const auto hierarchies = ParseMountInfo(
      "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
      "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
      "33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup "
      "rw,xattr,release_agent=/a,name=systemd\n"
      "34 31 0:31 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
      "35 31 0:29 / /other/cpu\\040and rw - cgroup cgroup rw,cpu,cpuacct\n"
      "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  EXPECT_THAT(hierarchies,
              ElementsAre(CgroupHierarchy{"/sys/fs/cgroup/cpu,cpuacct", false, "cpu,cpuacct"},
                          CgroupHierarchy{"/sys/fs/cgroup/systemd", false, "none,name=systemd"},
                          CgroupHierarchy{"/sys/fs/cgroup/unified", true, ""}));
  EXPECT_FALSE(IsUnified(hierarchies));
}

TEST(CgroupHierarchiesTest, EscapedPathsAreRead) {
  EXPECT_EQ(ParseMountInfo("1 2 0:3 / /a\\040b rw - cgroup2 c rw\n").at(0).mount, "/a b");
  EXPECT_TRUE(ParseMountInfo("").empty());
  EXPECT_TRUE(ParseMountInfo("1 2 - cgroup2\n - \n").empty());
}

TEST(CgroupNameTest, EveryDirectoryHasItsOwnAndAlwaysTheSame) {
  EXPECT_EQ(CgroupName("/a/b"), CgroupName("/a/./b"));
  EXPECT_NE(CgroupName("/a/b"), CgroupName("/a/c"));
  EXPECT_THAT(CgroupName("/a/b"), ::testing::MatchesRegex("vibe-[0-9a-f]+"));
  EXPECT_EQ(CgroupName("/a/b").size(), 17u);
}

TEST(RunRecordTest, IsReadAsItWasWritten) {
  const RunRecord record{.pid = 42, .start_time = 1234567, .boot_id = "0f3c"};
  EXPECT_EQ(ParseRecord(FormatRecord(record)).value(), record);
  for (const char* text : {"", "42", "42 7", "x 7 boot", "-3 7 boot", "42 7 boot more", "0 7 b"}) {
    EXPECT_FALSE(ParseRecord(text).ok()) << text;
  }
}

TEST(RunRecordTest, ReadsTheStartOfAProcessWithAnyName) {
  const char* rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20\n";
  EXPECT_EQ(ParseStartTime(absl::StrCat("9 (a) S b)", rest)).value(), 777u);
  EXPECT_EQ(
      ParseStartTime("9 (a) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20").status().code(),
      absl::StatusCode::kNotFound);
  EXPECT_FALSE(ParseStartTime("9 (a) S 1").ok());
  EXPECT_FALSE(ParseStartTime("").ok());
}

TEST(RunRecordTest, AProcessIsFoundOnlyWithItsStartTime) {
  RunRecord record = RecordOf(getpid()).value();
  EXPECT_TRUE(OpenProcess(record).ok());
  ++record.start_time;
  EXPECT_EQ(OpenProcess(record).status().code(), absl::StatusCode::kNotFound);
  record = RecordOf(getpid()).value();
  record.boot_id = "another";
  EXPECT_EQ(OpenProcess(record).status().code(), absl::StatusCode::kNotFound);
}

TEST(BackoffTest, QuickTheFirstTimesThenSlowerAndQuickAgainAfterAGoodRun) {
  init::Backoff backoff;
  absl::Duration wait, sum;
  for (int i = 0; i < 3; ++i) {
    sum += backoff.Next(absl::Milliseconds(100));
  }
  EXPECT_LT(sum, absl::Milliseconds(200));
  for (int i = 0; i < 20; ++i) {
    wait = backoff.Next(absl::Milliseconds(100));
  }
  EXPECT_EQ(wait, absl::Seconds(5));
  EXPECT_EQ(backoff.Next(absl::Minutes(1)), absl::ZeroDuration());
}

TEST(CommandLinesTest, WithoutAnUplinkTheSupervisorHearsOfNone) {
  const init::Programs programs{.containerd = "/usr/bin/containerd",
                                .runtime = "/usr/bin/crun",
                                .slirp4netns = "",
                                .cni = "/usr/lib/cni",
                                .mkfs = "/usr/sbin/mkfs.btrfs",
                                .supervisor = "/opt/vibe/vibe-supervisor"};
  const std::string offline = absl::StrJoin(init::SupervisorCommand(programs, {}), " ");
  EXPECT_EQ(
      offline,
      "/run/vibe/bin/vibe-supervisor --data /run/vibe/data --run /run/vibe/state "
      "--containerd /run/vibe/containerd.sock --runtime /usr/bin/crun "
      "--logger /run/vibe/bin/vibe-logger --cgroup /vibe --cni /usr/lib/cni --disk-host "
      "/run/vibe/logs "
      "--listen unix:/run/vibe/host/supervisor.sock --forward unix:/run/vibe/host/forward.sock");
  const std::string online =
      absl::StrJoin(init::SupervisorCommand(programs, {.uplink = true}), " ");
  EXPECT_EQ(online, offline +
                        " --host-gateway 10.0.2.2 --blocked 10.0.2.0/24 --uplink tap0 "
                        "--nameserver 10.0.2.3");
}

TEST(CommandLinesTest, ContainerdKeepsItsDataOnTheMachinesDisk) {
  EXPECT_THAT(init::ContainerdConfig(), HasSubstr("\nroot = \"/run/vibe/data/containerd\"\n"));
  EXPECT_THAT(init::ContainerdConfig(), HasSubstr("\nstate = \"/run/vibe/containerd\"\n"));
  EXPECT_EQ(init::ContainerdConfig().find('$'), std::string::npos);
}

TEST(BackendsTest, TheChoiceIsExplained) {
  const auto backend =
      MakeBackend({.home = "/nowhere", .programs = "/nowhere", .wanted = "native"});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_EQ(backend->machine->name(), "native");
  EXPECT_THAT(backend->reason, HasSubstr("VIBE_MACHINE"));
  EXPECT_EQ(backend->machine->state(), PowerState::kOff);
}

TEST(BackendsTest, WhatThereIsNotIsRefusedWithAdvice) {
  const absl::Status missing = MakeBackend({.home = "/h", .programs = "", .wanted = "vz"}).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(AdviceOf(missing), "");
  const absl::Status unknown =
      MakeBackend({.home = "/h", .programs = "", .wanted = "moon"}).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("moon"));
}

}  // namespace
}  // namespace vibe::vm::native
