// A real guest that is suspended and goes on, and every way in which it must not: a save is used
// once, over the disk that it was made with, by the machine that made it, or not at all.
#include <gmock/gmock.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "host/cancellation.h"
#include "qemu_fixture.h"
#include "rpc/ports.h"
#include "vibe/v1/supervisor.grpc.pb.h"
#include "vm/guest_image.h"
#include "vm/machine.h"
#include "vm/qemu/dial.h"

namespace vibe::vm::qemu::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr char kProject[] = "0b6d5c5e-3f0a-4c35-9d0c-2f6a7f6b9a11";
// Of a cold boot in the same run: the goal is 0.3 s, which no busy machine can be held to.
constexpr double kOfColdBoot = 0.25;

class QemuSuspendTest : public QemuMachineTest {
 protected:
  void Begin(std::optional<Transport> transport = {}) {
    machine_ = Host(transport);
    ASSERT_TRUE(Boots(*machine_));
    v1::EnsureProjectRequest request;
    request.set_id(kProject);
    request.set_name("kept");
    request.set_manifest_json(
        R"({"kind":"vibe.app/v1","id":"dev.vibe.kept","name":"Kept","version":"1.0.0",)"
        R"("services":[{"name":"web","image":"localhost:5000/kept:1"}]})");
    host::Cancellation cancel;
    const absl::Status status = supervisor_.EnsureProject(request, cancel).status();
    ASSERT_TRUE(status.ok()) << status;
  }

  // When the guest's supervisor began: another process has another time.
  absl::Time Began() {
    const auto health = supervisor_.Health();
    EXPECT_TRUE(health.ok()) << health.status();
    return health.ok() ? absl::FromUnixSeconds(health->started_at().seconds()) +
                             absl::Nanoseconds(health->started_at().nanos())
                       : absl::InfinitePast();
  }

  ::testing::AssertionResult Suspends() {
    const absl::Time start = absl::Now();
    absl::Status status = supervisor_.SyncDisk();
    const absl::Time synced = absl::Now();
    if (status.ok()) {
      status = machine_->Suspend();
    }
    if (!status.ok()) {
      return ::testing::AssertionFailure() << status;
    }
    std::fprintf(stderr, "synced in %s, suspended in %s\n",
                 absl::FormatDuration(synced - start).c_str(),
                 absl::FormatDuration(absl::Now() - synced).c_str());
    if (machine_->state() != PowerState::kOff || !Processes().empty() || !machine_->suspended()) {
      return ::testing::AssertionFailure() << "something of the machine is left";
    }
    return ::testing::AssertionSuccess();
  }

  void ExpectData() {
    host::Cancellation cancel;
    const auto projects = supervisor_.ListProjects(cancel);
    ASSERT_TRUE(projects.ok()) << projects.status();
    ASSERT_EQ(projects->size(), 1u) << "a project was lost";
    EXPECT_EQ(projects->front().name(), "kept");
  }

  // Suspends, breaks the save, and wants a guest that booted with the data that was synced.
  void ExpectColdAfter(const std::string& what, const std::function<void()>& harm,
                       const std::string& reason) {
    SCOPED_TRACE(what);
    ASSERT_TRUE(Suspends());
    harm();
    ASSERT_TRUE(Boots(*machine_));
    EXPECT_FALSE(machine_->resumed()) << "a broken save was used";
    EXPECT_THAT(Console(), HasSubstr(reason));
    EXPECT_FALSE(fs::exists(layout_.save()));
    ExpectData();
  }

  std::unique_ptr<QemuMachine> machine_;
  host::SupervisorClient supervisor_{[this] { return machine_->Dial(rpc::kSupervisorPort); }};
};

TEST_F(QemuSuspendTest, TheGuestGoesOnWhereItWas) {
  Begin();
  const absl::Duration cold = answered_after_;
  const absl::Time began = Began();
  std::vector<absl::Duration> times;
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(Suspends());
    if (round == 1) {
      machine_ = Host();  // as after vibed's end
      EXPECT_TRUE(machine_->suspended());
    }
    ASSERT_TRUE(Boots(*machine_));
    EXPECT_TRUE(machine_->resumed());
    EXPECT_FALSE(machine_->suspended());
    EXPECT_FALSE(fs::exists(layout_.save())) << "the save can be used again";
    EXPECT_EQ(Began(), began) << "another guest";
    ExpectData();
    times.push_back(answered_after_);
  }
  std::sort(times.begin(), times.end());
  std::fprintf(stderr, "resumed and answered in %s (median)\n",
               absl::FormatDuration(times[times.size() / 2]).c_str());
  EXPECT_LT(times[times.size() / 2], kOfColdBoot * cold);

  // A save is used once: after a power cut the guest boots.
  ASSERT_TRUE(Signal("qemu-system", SIGKILL));
  ASSERT_TRUE(Eventually([&] { return Processes().empty(); }));
  EXPECT_FALSE(machine_->suspended());
  ASSERT_TRUE(Boots(*machine_));
  EXPECT_FALSE(machine_->resumed());
  EXPECT_NE(Began(), began);
  ExpectData();

  // And the power button works on a guest that was resumed.
  ASSERT_TRUE(Suspends());
  ASSERT_TRUE(Boots(*machine_));
  ASSERT_TRUE(machine_->RequestShutdown().ok());
  EXPECT_TRUE(Eventually([&] { return machine_->state() == PowerState::kOff; }, absl::Seconds(40)));
  EXPECT_THAT(Console(), HasSubstr("vibe-init: off"));
}

TEST_F(QemuSuspendTest, ASerialPortGoesOnToo) {
  Begin(Transport::kSerial);
  const absl::Time began = Began();
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(Suspends());
    ASSERT_TRUE(Boots(*machine_));
    EXPECT_TRUE(machine_->resumed());
    EXPECT_EQ(Began(), began) << "another guest";
    EXPECT_TRUE(machine_->Dial(rpc::kForwardPort).ok());
  }
  ExpectData();
}

TEST_F(QemuSuspendTest, AnHourLaterTheClockIsRight) {
  Begin();
  // To the guest it is the same whether an hour passes or its clock was an hour late before.
  const auto set = [&](absl::Time time) {
    auto fd = machine_->Dial(rpc::kSupervisorPort);
    ASSERT_TRUE(fd.ok()) << fd.status();
    const auto stub =
        v1::Supervisor::NewStub(grpc::CreateInsecureChannelFromFd("machine", fd->release()));
    grpc::ClientContext context;
    v1::SyncClockRequest request;
    v1::SyncClockResponse response;
    request.mutable_time()->set_seconds(absl::ToUnixSeconds(time));
    const grpc::Status status = stub->SyncClock(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  };
  set(absl::Now() - absl::Hours(1));
  ASSERT_TRUE(Suspends());
  ASSERT_TRUE(Boots(*machine_));
  ASSERT_TRUE(machine_->resumed());
  const auto late = supervisor_.SyncClock();
  ASSERT_TRUE(late.ok()) << late.status();
  EXPECT_GT(*late, absl::Minutes(59)) << "the guest had nothing to catch up with";
  absl::SleepFor(absl::Seconds(1));
  const absl::Time before = absl::Now();
  const auto health = supervisor_.Health();
  const absl::Time after = absl::Now();
  ASSERT_TRUE(health.ok());
  const absl::Time guest =
      absl::FromUnixSeconds(health->time().seconds()) + absl::Nanoseconds(health->time().nanos());
  std::fprintf(stderr, "the clock is off by %s\n",
               absl::FormatDuration(guest - (before + (after - before) / 2)).c_str());
  EXPECT_GT(guest, before - absl::Milliseconds(50));
  EXPECT_LT(guest, after + absl::Milliseconds(50));
}

TEST_F(QemuSuspendTest, AStaleOrBrokenSaveIsThrownAway) {
  // An image that can change.
  const GuestImage image = FindGuestImage(GuestImageDirectories(VIBE_TEST_BIN_DIR)).value();
  images_ = {directory_ / "image"};
  fs::create_directories(images_.front());
  fs::copy(image.kernel, images_.front() / "kernel");
  fs::copy(image.initrd, images_.front() / "initrd");
  Begin();
  const std::string thrown_away = "the saved machine was thrown away: ";
  ExpectColdAfter(
      "a truncated state", [&] { fs::resize_file(layout_.state(), 100'000); },
      thrown_away + "the saved state is not as it was");
  ExpectColdAfter(
      "a disk that was written to",
      [&] {
        std::fstream disk(layout_.disk(), std::ios::in | std::ios::out | std::ios::binary);
        disk.seekp(0);
        disk.put('\0');  // btrfs begins later
      },
      thrown_away + "the data disk is not as it was");
  ExpectColdAfter(
      "another image",
      [&] { fs::last_write_time(images_.front() / "initrd", fs::file_time_type::clock::now()); },
      thrown_away + "the machine (its image, qemu, size or channel) is not as it was");
  ExpectColdAfter(
      "another size", [&] { size_.memory_mib = 1100; },
      thrown_away + "the machine (its image, qemu, size or channel) is not as it was");
}

// Each victim at each step that the files and processes show; "vibed" is a process of its own.
TEST_F(QemuSuspendTest, AKillInTheMiddleOfASaveLosesNothing) {
  Begin();
  const auto begun = [&] { return fs::exists(layout_.state()); };
  const auto written = [&] {
    std::error_code error;
    const uintmax_t size = fs::file_size(layout_.state(), error);
    return !error && size > 0;
  };
  const auto ended = [&] { return fs::exists(layout_.state()) && Find("qemu-system") == 0; };
  const auto recorded = [&] { return fs::exists(layout_.save()); };
  struct Case {
    std::string program, step;
    std::function<bool()> reached;
  };
  for (const Case& kill : std::vector<Case>{{"qemu-system", "the state is written", written},
                                            {"vibe-qemu-keeper", "the save begins", begun},
                                            {"vibed", "the save begins", begun},
                                            {"vibed", "the state is written", written},
                                            {"vibed", "qemu has ended", ended},
                                            {"vibed", "the record is there", recorded}}) {
    SCOPED_TRACE(kill.program + " when " + kill.step);
    ASSERT_TRUE(supervisor_.SyncDisk().ok());
    const pid_t vibed = ::fork();
    ASSERT_GE(vibed, 0);
    if (vibed == 0) {
      ::_exit(machine_->Suspend().ok() ? 0 : 1);
    }
    const pid_t victim = kill.program == "vibed" ? vibed : Find(kill.program);
    ASSERT_GT(victim, 0);
    const absl::Time limit = absl::Now() + absl::Seconds(60);
    while (!kill.reached() && absl::Now() < limit) {
    }
    EXPECT_EQ(::kill(victim, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(vibed, &status, 0), vibed);
    const bool saved = fs::exists(layout_.save());
    std::fprintf(stderr, "%s when %s: %s, %s\n", kill.program.c_str(), kill.step.c_str(),
                 WIFSIGNALED(status)        ? "vibed was killed"
                 : WEXITSTATUS(status) == 0 ? "the save succeeded"
                                            : "the save failed",
                 saved ? "saved" : "not saved");
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status) == 0, saved) << "half a save counts as one";
    }
    if (kill.step == "the record is there") {
      EXPECT_TRUE(saved);
    }
    machine_ = Host();
    ASSERT_TRUE(Boots(*machine_));
    EXPECT_EQ(machine_->resumed(), saved);
    ExpectData();
  }
}

TEST_F(QemuSuspendTest, AKillInTheMiddleOfAResumeBoots) {
  Begin();
  std::vector<std::string> programs = {"qemu-system", "vibe-qemu-keeper"};
  if (Find("vhost-device-vsock") != 0) {  // a machine with a serial port has none
    programs.emplace_back("vhost-device-vsock");
  }
  for (const std::string& program : programs) {
    SCOPED_TRACE(program);
    ASSERT_TRUE(Suspends());
    std::thread killer([&] {
      pid_t pid = 0;
      Eventually([&] { return (pid = Find(program)) != 0 && Find("qemu-system") != 0; });
      if (program == "vibe-qemu-keeper") {  // not the one that only started it
        std::ifstream(layout_.record()) >> pid;
      }
      if (pid > 0) {
        ::kill(pid, SIGKILL);
      }
    });
    const ::testing::AssertionResult booted = Boots(*machine_);
    killer.join();
    EXPECT_TRUE(booted);
    EXPECT_FALSE(machine_->resumed());
    EXPECT_THAT(Console(), HasSubstr("the saved machine was thrown away: "));
    ExpectData();
  }
}

// vibed itself ends in the middle: the next one finds a machine that is of no use.
TEST_F(QemuSuspendTest, AMachineThatNobodyContinuesIsReplaced) {
  Begin();
  const auto replaced = [&](const std::string& what, const std::string& reason) {
    SCOPED_TRACE(what);
    machine_ = Host();
    ASSERT_TRUE(Boots(*machine_));
    EXPECT_FALSE(machine_->resumed());
    EXPECT_THAT(Console(), HasSubstr("a machine that ran was thrown away: " + reason));
    ExpectData();
  };
  ASSERT_TRUE(supervisor_.SyncDisk().ok());
  {
    auto qmp = Qmp::Connect(layout_.control(), absl::Now() + absl::Seconds(5));
    ASSERT_TRUE(qmp.ok()) << qmp.status();
    ASSERT_TRUE(
        qmp->Execute("stop", nlohmann::json::object(), absl::Now() + absl::Seconds(5)).ok());
  }
  replaced("its guest does not run", "it was being saved or resumed");

  ASSERT_TRUE(Suspends());
  ASSERT_TRUE(Boots(*machine_));
  ASSERT_TRUE(machine_->resumed());
  fs::remove(layout_.ready());
  EXPECT_THAT(std::string(machine_->Dial(rpc::kSupervisorPort).status().message()),
              HasSubstr("still starting"))
      << "an earlier boot's word counts";
  replaced("nobody heard its guest's call", "it was being saved or resumed");

  ASSERT_TRUE(supervisor_.SyncDisk().ok());
  std::ofstream(layout_.boot()) << "{}";
  EXPECT_THAT(std::string(machine_->Dial(rpc::kSupervisorPort).status().message()),
              HasSubstr("not the description of a boot"));
  replaced("nobody can read how to reach it", "cannot read ");
}

// The guest still has the sockets of connections from before, whose ports the new device uses
// again.
TEST_F(QemuSuspendTest, DialsAfterAResumeAreAnswered) {
  Begin();
  for (const bool directly : {true, false}) {
    std::vector<UniqueFd> held;
    for (int i = 0; i < 160; ++i) {
      auto fd = machine_->Dial(i % 2 == 0 ? rpc::kSupervisorPort : rpc::kForwardPort);
      ASSERT_TRUE(fd.ok()) << fd.status();
      held.push_back(*std::move(fd));
    }
    ASSERT_TRUE(Suspends());
    ASSERT_TRUE(machine_->Start().ok());
    ASSERT_TRUE(machine_->resumed());
    const Boot boot = ParseBoot(ReadFile(layout_.boot(), 4096).value()).value();
    Dialer dialer;
    int refused = 0;
    for (int i = 0; i < 20; ++i) {
      const uint32_t port = i % 2 == 0 ? rpc::kSupervisorPort : rpc::kForwardPort;
      if (directly) {
        refused += dialer.Dial(layout_, boot, port, absl::Now() + absl::Seconds(3)).ok() ? 0 : 1;
      } else {
        const auto fd = machine_->Dial(port);
        EXPECT_TRUE(fd.ok()) << "dial " << i << ": " << fd.status();
      }
    }
    if (directly) {
      std::fprintf(stderr, "the guest refused %d of 20 connections\n", refused);
    }
  }
  ExpectData();
}

// Makes each system call of one thread of a process last 10 ms longer; its other threads are as
// quick as ever.
class Brake {
 public:
  explicit Brake(std::function<pid_t()> find) {
    thread_ = std::thread([this, find = std::move(find)] { Run(find); });
  }
  ~Brake() {
    stop_ = true;
    thread_.join();
  }
  bool held() const { return held_; }

 private:
  void Run(const std::function<pid_t()>& find) {
    pid_t id = 0;
    while ((id = find()) == 0 && !stop_) {
    }
    held_ = ::ptrace(PTRACE_SEIZE, id, nullptr, nullptr) == 0;
    if (!held_) {
      return;
    }
    ::ptrace(PTRACE_INTERRUPT, id, nullptr, nullptr);
    for (int status = 0;;) {
      const pid_t stopped = ::waitpid(id, &status, __WALL | WNOHANG);
      if (stopped < 0 || (stopped == id && !WIFSTOPPED(status))) {
        return;  // it ended
      }
      if (stopped == 0) {
        if (stop_) {
          ::ptrace(PTRACE_INTERRUPT, id, nullptr, nullptr);
        }
        absl::SleepFor(absl::Milliseconds(1));
      } else if (stop_) {
        ::ptrace(PTRACE_DETACH, id, nullptr, nullptr);
        return;
      } else {
        absl::SleepFor(absl::Milliseconds(5));  // at its begin and at its end
        const long signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        ::ptrace(PTRACE_SYSCALL, id, nullptr, signal);
      }
    }
  }

  std::atomic<bool> stop_ = false, held_ = false;
  std::thread thread_;
};

// The device hears late from qemu that its queues are enabled, and drops what the guest says first.
TEST_F(QemuSuspendTest, ABusyHostCostsNoSave) {
  Begin();
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(Suspends());
    {
      // The device's last thread talks with qemu, the one before it with the guest.
      const Brake brake([this]() -> pid_t {
        std::vector<std::pair<pid_t, std::string>> threads;
        std::error_code error;
        const fs::path tasks =
            fs::path("/proc") / std::to_string(Find("vhost-device-vsock")) / "task";
        for (const fs::directory_entry& task : fs::directory_iterator(tasks, error)) {
          const auto name = ReadFile(task.path() / "comm", 100);
          threads.emplace_back(std::stoi(task.path().filename().string()), name.value_or(""));
        }
        std::sort(threads.begin(), threads.end());
        const size_t count = threads.size();
        return count > 2 && threads[count - 2].second == "vring_worker\n" ? threads.back().first
                                                                          : 0;
      });
      EXPECT_TRUE(Boots(*machine_));
      if (!brake.held()) {
        GTEST_SKIP() << "another process cannot be traced here";
      }
    }
    EXPECT_TRUE(machine_->resumed()) << "a save was thrown away";
  }
  ExpectData();
}

TEST_F(QemuSuspendTest, TheMachineAboveSuspendsAndGoesOn) {
  machine_ = Host();
  Machine machine(
      Host(), [this] { return supervisor_.Health().status(); }, Machine::Options());
  ASSERT_TRUE(machine.EnsureReady().ok());
  const absl::Time began = Began();
  const auto sync = [this] { return supervisor_.SyncDisk(); };
  const auto shutdown = [this] { return supervisor_.Shutdown(); };
  ASSERT_TRUE(machine.Suspend(sync, shutdown).ok());
  EXPECT_EQ(machine.status().state, MachineState::kStopped);
  EXPECT_TRUE(machine.status().suspended) << machine.status().save_error;
  const absl::Time start = absl::Now();
  ASSERT_TRUE(machine.EnsureReady().ok());
  std::fprintf(stderr, "ready after %s\n", absl::FormatDuration(absl::Now() - start).c_str());
  EXPECT_TRUE(machine.status().resumed);
  EXPECT_EQ(Began(), began);
  // Off for good, from a save: its services get to end.
  ASSERT_TRUE(machine.Suspend(sync, shutdown).ok());
  ASSERT_TRUE(machine.status().suspended);
  ASSERT_TRUE(machine.Stop(shutdown).ok());
  EXPECT_FALSE(machine.status().suspended);
  EXPECT_THAT(Console(), HasSubstr("vibe-init: off"));
}

}  // namespace
}  // namespace vibe::vm::qemu::testing
