// The native machine with the real init, containerd and supervisor.
#include "vm/native/native_machine.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "machine_fixture.h"
#include "rpc/ports.h"
#include "vm/data_disk.h"
#include "vm/machine.h"
#include "vm/native/run_record.h"

namespace vibe::vm::native::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A container that nobody but containerd knows of. Returns its process's number on the host, or 0.
pid_t RunContainer(Subject& subject, const std::filesystem::path& rootfs) {
  EXPECT_TRUE(MakeDirectories(rootfs).ok());
  std::filesystem::copy_file(VIBE_TEST_PAYLOAD, rootfs / "payload",
                             std::filesystem::copy_options::overwrite_existing);
  const std::string net = Namespace(subject.MachineHalf(), "net");
  const SubprocessResult run =
      subject.Inside({"ctr", "-a", inside::kContainerdSocket, "run", "-d", "--rootfs",
                      rootfs.string(), "c1", "/payload", "wait"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const auto command = ReadFile(entry.path() / "cmdline", 4096);
    const std::string root = absl::StrCat(entry.path().string(), "/root/payload");
    struct stat info {};
    if (command.ok() && *command == std::string("/payload\0wait\0", 14) &&
        stat(root.c_str(), &info) == 0 && std::filesystem::equivalent(root, rootfs / "payload")) {
      return std::stoi(entry.path().filename());
    }
  }
  return 0;
}

bool Alive(const RunRecord& record) {
  return OpenProcess(record).ok();
}

TEST_F(NativeMachineTest, BootsInUnderASecondAndAnswersOnBothPorts) {
  Subject& subject = Make("machine");
  EXPECT_EQ(subject.machine().state(), PowerState::kOff);
  const absl::Time start = absl::Now();
  ASSERT_TRUE(subject.Boots());
  RecordProperty("boot_ms", static_cast<int>(absl::ToInt64Milliseconds(absl::Now() - start)));
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));  // 0.1 s on a quiet machine
  EXPECT_EQ(subject.machine().state(), PowerState::kOn);
  EXPECT_THAT(subject.Console(), HasSubstr("machine ready"));

  const auto stream = subject.machine().Dial(rpc::kForwardPort);
  ASSERT_TRUE(stream.ok()) << stream.status();
  ASSERT_EQ(write(stream->get(), "CONNECT nothing web 80\n", 23), 23);
  char answer[4] = "";
  ASSERT_GE(read(stream->get(), answer, 3), 3);
  EXPECT_STREQ(answer, "ERR");
  EXPECT_EQ(subject.machine().Dial(1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(subject.machine().Start().ok());  // a second start finds it
}

TEST_F(NativeMachineTest, TheMachineHasItsOwnNamespacesAndName) {
  Subject& subject = Make("machine");
  ASSERT_TRUE(subject.Boots());
  for (const char* kind : {"net", "mnt", "pid", "ipc", "uts", "cgroup"}) {
    EXPECT_NE(Namespace(subject.MachineHalf(), kind), Namespace(getpid(), kind)) << kind;
  }
  EXPECT_EQ(subject.Inside({"hostname"}).out, CgroupName(subject.layout().directory) + "\n");
  EXPECT_EQ(subject.Inside({"cat", "/proc/sys/net/ipv4/ip_forward"}).out, "1\n");
  EXPECT_EQ(subject.Inside({"ls", "/run"}).out, "lock\nnetns\nvibe\n");
}

TEST_F(NativeMachineTest, ContainerdComesBackAndContainersRunOn) {
  Subject& subject = Make("machine");
  ASSERT_TRUE(subject.Boots());
  const pid_t container = RunContainer(subject, directory_ / "rootfs");
  ASSERT_NE(container, 0);
  const RunRecord record = RecordOf(container).value();
  for (int i = 0; i < 2; ++i) {
    const pid_t containerd = subject.Find("containerd");
    ASSERT_GT(containerd, 0);
    ASSERT_EQ(kill(containerd, SIGKILL), 0);
    ASSERT_TRUE(Eventually([&] {
      const pid_t next = subject.Find("containerd");
      return next > 0 && next != containerd;
    }));
    EXPECT_TRUE(Eventually([&] {
      return subject.Inside({"ctr", "-a", inside::kContainerdSocket, "task", "ls"})
                 .out.find("RUNNING") != std::string::npos;
    }));
    EXPECT_TRUE(Alive(record)) << "a user's service died with containerd";
  }
}

TEST_F(NativeMachineTest, TheSupervisorComesBack) {
  Subject& subject = Make("machine");
  ASSERT_TRUE(subject.Boots());
  for (int i = 0; i < 3; ++i) {
    const pid_t supervisor = subject.Find("vibe-supervisor");
    ASSERT_GT(supervisor, 0);
    ASSERT_EQ(kill(supervisor, SIGKILL), 0);
    const absl::Time killed = absl::Now();
    ASSERT_TRUE(Eventually([&] {
      const pid_t next = subject.Find("vibe-supervisor");
      return next > 0 && next != supervisor;
    }));
    EXPECT_LT(absl::Now() - killed, absl::Seconds(2));  // 0.1 s on a quiet machine
    EXPECT_TRUE(Eventually([&] { return subject.Health().ok(); }));
  }
}

TEST_F(NativeMachineTest, AMachineWhoseHostProcessWasKilledIsFoundAgain) {
  Subject& subject = Make("machine");
  const pid_t host = fork();
  ASSERT_GE(host, 0);
  if (host == 0) {
    if (subject.machine().Start().ok()) {
      raise(SIGKILL);
    }
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(host, &status, 0), host);
  ASSERT_TRUE(WIFSIGNALED(status));
  const pid_t before = subject.HostHalf();
  ASSERT_NE(before, 0);

  Machine machine(subject.AnotherHost(), [&] { return subject.Health(); }, {});
  machine.Adopt();
  ASSERT_TRUE(machine.EnsureReady().ok());
  EXPECT_EQ(machine.status().state, MachineState::kReady);
  EXPECT_EQ(machine.status().recoveries, 0);
  EXPECT_EQ(subject.HostHalf(), before) << "it was started anew: every service stopped";
  EXPECT_TRUE(machine.Stop(nullptr).ok());
  EXPECT_THAT(subject.Leftovers(), IsEmpty());
}

TEST_F(NativeMachineTest, KillLeavesNothing) {
  Subject& subject = Make("machine");
  ASSERT_TRUE(subject.Boots());
  ASSERT_NE(RunContainer(subject, directory_ / "rootfs"), 0);
  const std::string net = Namespace(subject.MachineHalf(), "net");
  const std::string mounts = Namespace(subject.MachineHalf(), "mnt");
  const UniqueFd kept_net = KeepNamespace(subject.MachineHalf(), "net");
  ASSERT_TRUE(kept_net.valid());
  std::set<RunRecord, bool (*)(const RunRecord&, const RunRecord&)> processes(
      [](const RunRecord& a, const RunRecord& b) { return a.pid < b.pid; });
  const Cgroup cgroup(CgroupHierarchies().value(), CgroupName(subject.layout().directory));
  std::set<pid_t> pids = cgroup.Processes();
  // By their own records: holding on to this namespace would keep the data mounted.
  for (const pid_t pid : ProcessesIn(mounts, "mnt")) {
    pids.insert(pid);
  }
  for (const pid_t pid : pids) {
    if (const auto record = RecordOf(pid); record.ok()) {
      processes.insert(*record);
    }
  }
  EXPECT_GE(processes.size(), 6u);  // both halves, containerd, supervisor, shim, container
  EXPECT_FALSE(subject.Leftovers().empty());

  ASSERT_TRUE(subject.machine().Kill().ok());
  EXPECT_EQ(subject.machine().state(), PowerState::kOff);
  EXPECT_THAT(subject.Leftovers(), IsEmpty());
  EXPECT_THAT(ProcessesIn(net, "net"), IsEmpty());
  for (const RunRecord& process : processes) {
    EXPECT_FALSE(Alive(process)) << process.pid;
  }
  EXPECT_TRUE(subject.machine().Kill().ok());  // again is harmless
  EXPECT_TRUE(subject.Boots());
}

TEST_F(NativeMachineTest, PowersOffWhenAskedAndLeavesNothingButTheData) {
  Subject& subject = Make("machine");
  ASSERT_TRUE(subject.Boots());
  ASSERT_NE(RunContainer(subject, directory_ / "rootfs"), 0);
  ASSERT_TRUE(subject.machine().RequestShutdown().ok());
  EXPECT_TRUE(
      Eventually([&] { return subject.machine().state() == PowerState::kOff; }, absl::Seconds(20)));
  EXPECT_TRUE(Eventually([&] { return subject.Leftovers().empty(); }));
  EXPECT_TRUE(subject.machine().RequestShutdown().ok());  // off already
  ASSERT_TRUE(subject.Boots());
  EXPECT_THAT(subject.Console(), HasSubstr("was blank"));
  const size_t second = subject.Console().rfind("---- start");
  EXPECT_EQ(subject.Console().find("was blank", second), std::string::npos);
}

TEST_F(NativeMachineTest, TheDataIsOnADiskThatGrowsWithTheSettingsAndShrinksWithTheData) {
  Subject& subject = Make("machine");
  ASSERT_TRUE(subject.Boots());
  EXPECT_NE(subject.LoopDevice(), "");
  const std::string file = std::string(inside::kData) + "/file";
  ASSERT_EQ(subject.Inside({"stat", "-f", "-c", "%T", inside::kData}).out, "btrfs\n");
  ASSERT_EQ(
      subject.Inside({"dd", "if=/dev/urandom", "of=" + file, "bs=1M", "count=256", "conv=fsync"})
          .exit_code,
      0);
  const std::string digest = subject.Inside({"sha256sum", file}).out;
  const auto size = [&] {
    return std::stoull(subject.Inside({"df", "-B1", "--output=size", inside::kData})
                           .out.substr(sizeof "1B-blocks"));
  };
  const auto allocated = [&] { return UseOfDataDisk(subject.layout().disk())->allocated; };
  EXPECT_LE(size(), uint64_t{1} << 30);
  EXPECT_GE(allocated(), uint64_t{256} << 20);

  ASSERT_TRUE(subject.machine().Kill().ok());
  EXPECT_EQ(subject.LoopDevice(), "");
  subject.SetDiskBytes(uint64_t{2} << 30);
  ASSERT_TRUE(subject.Boots());
  EXPECT_GT(size(), uint64_t{15} << 27) << "the data disk did not grow to what was asked for";
  EXPECT_EQ(subject.Inside({"sha256sum", file}).out, digest) << "data was lost";
  const uint64_t full = allocated();
  ASSERT_EQ(subject.Inside({"rm", file}).exit_code, 0);
  subject.Inside({"sync"});
  // Two looks at the free space, and not the two minutes that btrfs takes by itself.
  EXPECT_TRUE(
      Eventually([&] { return allocated() + (uint64_t{230} << 20) < full; }, absl::Minutes(1)))
      << "deleted data still takes " << allocated() << " bytes of the host's disk";
}

TEST_F(NativeMachineTest, EveryKindOfEndFreesTheDataDisk) {
  Subject& subject = Make("machine");
  for (const bool host : {true, false}) {
    ASSERT_TRUE(subject.Boots());
    subject.Inside({"ctr", "-a", inside::kContainerdSocket, "containers", "rm", "c1"});
    ASSERT_NE(RunContainer(subject, directory_ / "rootfs"), 0);
    ASSERT_EQ(kill(host ? subject.HostHalf() : subject.MachineHalf(), SIGKILL), 0);
    EXPECT_TRUE(Eventually([&] { return subject.LoopDevice().empty(); }))
        << subject.LoopDevice() << " is left of a killed machine";
    EXPECT_TRUE(Eventually([&] { return subject.machine().state() == PowerState::kOff; }));
  }
}

TEST_F(NativeMachineTest, WhatIsOnTheDataDiskIsNeverFormattedAway) {
  Subject& subject = Make("machine");
  ASSERT_TRUE(MakeDirectories(subject.layout().directory).ok());
  const std::string precious(uint64_t{2} << 20, 'x');
  ASSERT_TRUE(ReplaceFile(subject.layout().disk(), precious).ok());
  const absl::Status status = subject.machine().Start();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("not empty and does not mount as btrfs"));
  EXPECT_NE(AdviceOf(status), "");
  std::string kept(precious.size(), '\0');
  std::ifstream(subject.layout().disk(), std::ios::binary)
      .read(kept.data(), static_cast<std::streamsize>(kept.size()));
  EXPECT_EQ(kept, precious);
  EXPECT_EQ(subject.LoopDevice(), "");
}

TEST_F(NativeMachineTest, ADiskWhoseFormattingWasInterruptedIsFormattedAgain) {
  Subject& subject = Make("machine");
  ASSERT_TRUE(MakeDirectories(subject.layout().directory).ok());
  std::string disk(uint64_t{1} << 20, '\0');
  disk.replace((64 << 10) + 64, 8, "!BHRfS_M");
  ASSERT_TRUE(ReplaceFile(subject.layout().disk(), disk).ok());
  EXPECT_TRUE(subject.Boots());
}

TEST_F(NativeMachineTest, DataInADirectoryIsRefusedAndLeftAlone) {
  Subject& subject = Make("machine");
  ASSERT_TRUE(MakeDirectories(subject.layout().directory / "data" / "projects").ok());
  const absl::Status status = subject.machine().Start();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(AdviceOf(status), "");
  EXPECT_TRUE(std::filesystem::exists(subject.layout().directory / "data" / "projects"));
}

TEST_F(NativeMachineTest, TwoMachinesDoNotKnowEachOther) {
  Subject& one = Make("one");
  Subject& two = Make("two");
  ASSERT_TRUE(one.Boots());
  ASSERT_TRUE(two.Boots());
  EXPECT_NE(Namespace(one.MachineHalf(), "net"), Namespace(two.MachineHalf(), "net"));
  const pid_t container = RunContainer(two, directory_ / "rootfs");
  ASSERT_NE(container, 0);
  const RunRecord record = RecordOf(container).value();
  EXPECT_EQ(one.Inside({"ctr", "-a", inside::kContainerdSocket, "task", "ls", "-q"}).out, "");
  ASSERT_TRUE(one.machine().Kill().ok());
  EXPECT_THAT(one.Leftovers(), IsEmpty());
  EXPECT_TRUE(two.Health().ok());
  EXPECT_TRUE(Alive(record));
}

TEST_F(NativeMachineTest, AStalePidFileIsNotTrusted) {
  Subject& subject = Make("machine");
  ASSERT_TRUE(MakeDirectories(subject.layout().directory).ok());
  RunRecord record = RecordOf(getpid()).value();
  ++record.start_time;  // our number, as another process had it
  for (const std::string& text : {FormatRecord(record), std::string("garbage"),
                                  std::string("1 1 x"), std::string(9000, '7')}) {
    ASSERT_TRUE(ReplaceFile(subject.layout().record(), text).ok());
    EXPECT_EQ(subject.machine().state(), PowerState::kOff);
    EXPECT_TRUE(
        subject.machine().RequestShutdown().ok());  // would end this test if it were trusted
  }
  EXPECT_TRUE(subject.Boots());
}

TEST_F(NativeMachineTest, AMachineThatLostItsHostHalfIsClearedAwayAndStartsAgain) {
  Subject& subject = Make("machine");
  ASSERT_TRUE(subject.Boots());
  Machine::Options options;
  options.heartbeat = absl::Milliseconds(50);
  Machine machine(
      subject.AnotherHost(), [&] { return subject.Health(); }, options);
  machine.Adopt();
  ASSERT_EQ(machine.status().state, MachineState::kReady);
  const pid_t before = subject.HostHalf();
  const std::string net = Namespace(subject.MachineHalf(), "net");
  const UniqueFd kept = KeepNamespace(subject.MachineHalf(), "net");
  ASSERT_TRUE(kept.valid());
  ASSERT_EQ(kill(before, SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] {
    return machine.status().recoveries == 1 && machine.status().state == MachineState::kReady;
  })) << machine.status().error;
  EXPECT_NE(subject.HostHalf(), before);
  EXPECT_THAT(ProcessesIn(net, "net"), IsEmpty());
  EXPECT_TRUE(machine.Stop(nullptr).ok());
}

TEST_F(NativeMachineTest, PauseHoldsItAndResumeLetsItGo) {
  Subject& subject = Make("machine");
  EXPECT_EQ(subject.machine().Pause().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(subject.Boots());
  const absl::Status paused = subject.machine().Pause();
  ASSERT_TRUE(paused.ok()) << paused;
  EXPECT_EQ(subject.machine().state(), PowerState::kPaused);
  EXPECT_FALSE(subject.Health().ok());
  ASSERT_TRUE(subject.machine().Resume().ok());
  EXPECT_EQ(subject.machine().state(), PowerState::kOn);
  EXPECT_TRUE(subject.Health().ok());
  ASSERT_TRUE(subject.machine().Pause().ok());
  EXPECT_TRUE(subject.machine().Kill().ok());
  EXPECT_THAT(subject.Leftovers(), IsEmpty());
}

TEST_F(NativeMachineTest, ALongHomeIsNoObstacle) {
  Subject& subject = Make(std::string(120, 'a') + "/" + std::string(120, 'b') + " and space");
  EXPECT_TRUE(subject.Boots());
  EXPECT_TRUE(subject.machine().Kill().ok());
  EXPECT_THAT(subject.Leftovers(), IsEmpty());
}

TEST_F(NativeMachineTest, TheSupervisorReachesAServerOnTheHostsLoopback) {
  if (access("/dev/net/tun", R_OK | W_OK) != 0 || access("/usr/bin/slirp4netns", X_OK) != 0) {
    GTEST_SKIP() << "no uplink on this host";
  }
  const UniqueFd server(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(server.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(server.get(), 8), 0);
  ASSERT_EQ(getsockname(server.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string connect =
      absl::StrCat("exec 3<>/dev/tcp/", kUplinkGateway, "/", ntohs(address.sin_port));

  Subject& subject = Make("machine");
  ASSERT_TRUE(subject.Boots());
  EXPECT_TRUE(Eventually([&] { return subject.Inside({"bash", "-c", connect}).exit_code == 0; }));
  EXPECT_THAT(subject.Inside({"cat", "/etc/resolv.conf"}).out, HasSubstr(kUplinkNameserver));

  Subject& offline = Make("offline", {"--no-uplink"});
  ASSERT_TRUE(offline.Boots());
  EXPECT_NE(offline.Inside({"bash", "-c", connect}).exit_code, 0);
}

TEST_F(NativeMachineTest, WhatCannotStartSaysWhy) {
  Subject& subject = Make("machine", {"--supervisor", "/nowhere/vibe-supervisor"});
  const absl::Status status = subject.machine().Start();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nowhere/vibe-supervisor is missing"));
  EXPECT_NE(AdviceOf(status), "");
  EXPECT_THAT(subject.Leftovers(), IsEmpty());
}

// Runs where version 2 is all that there is, as on a normal Debian 12.
int BootUnderVersion2(Subject& subject) {
  if (unshare(CLONE_NEWNS) != 0 ||
      mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return 2;
  }
  while (umount2("/sys/fs/cgroup", MNT_DETACH) == 0) {
  }
  if (mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, nullptr) != 0) {
    return 2;
  }
  const bool up = subject.machine().Start().ok() &&
                  Eventually([&] { return subject.machine().Dial(rpc::kSupervisorPort).ok(); });
  const bool all = up && subject.Cgroups().size() == 1 && subject.machine().Pause().ok() &&
                   subject.machine().Resume().ok();
  return subject.machine().Kill().ok() && subject.Leftovers().empty() && all ? 0 : 1;
}

TEST_F(NativeMachineTest, RunsUnderCgroupVersion2Alone) {
  Subject& subject = Make("machine");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    _exit(BootUnderVersion2(subject));
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 2) {
    GTEST_SKIP() << "the host does not let version 2 be mounted";
  }
  EXPECT_EQ(WEXITSTATUS(status), 0) << subject.Console();
}

}  // namespace
}  // namespace vibe::vm::native::testing
