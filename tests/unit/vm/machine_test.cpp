#include "vm/machine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "scripted_machine.h"
#include "vm/guest_fault.h"

namespace vibe::vm {
namespace {

using testing::ScriptedMachine;

constexpr absl::Duration kPatience = absl::Seconds(10);

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > deadline) {
      return false;
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

class MachineTest : public ::testing::Test {
 protected:
  MachineTest() {
    options_.boot_timeout = absl::Seconds(10);
    options_.shutdown_timeout = absl::Milliseconds(100);
    options_.heartbeat = absl::Milliseconds(5);
    options_.missed_heartbeats = 3;
    options_.max_recoveries = 3;
    options_.recovery_backoff = absl::Milliseconds(1);
    auto backend = std::make_unique<ScriptedMachine>();
    backend_ = backend.get();
    owned_ = std::move(backend);
  }

  Machine& machine() {
    if (machine_ == nullptr) {
      machine_ = std::make_unique<Machine>(
          std::move(owned_), [backend = backend_] { return backend->Health(); }, options_);
    }
    return *machine_;
  }
  bool Becomes(MachineState state) {
    return Eventually([&] { return machine().status().state == state; });
  }

  Machine::Options options_;
  ScriptedMachine* backend_;
  std::unique_ptr<VirtualMachine> owned_;

 private:
  std::unique_ptr<Machine> machine_;
};

TEST_F(MachineTest, BootsOnTheFirstNeedAndOnlyOnce) {
  EXPECT_EQ(machine().status().state, MachineState::kStopped);
  EXPECT_TRUE(machine().EnsureReady().ok());
  EXPECT_TRUE(machine().EnsureReady().ok());
  EXPECT_EQ(machine().status().state, MachineState::kReady);
  EXPECT_EQ(machine().status().backend, "scripted");
  EXPECT_NE(machine().status().ready_since, absl::InfinitePast());
  EXPECT_EQ(backend_->Count(&ScriptedMachine::starts), 1);
}

TEST_F(MachineTest, ConcurrentCallersShareOneBoot) {
  backend_->answers_after_start = false;
  machine();
  std::vector<std::thread> callers;
  std::atomic<int> ready = 0;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&] { ready += machine().EnsureReady().ok() ? 1 : 0; });
  }
  EXPECT_TRUE(Becomes(MachineState::kBooting));
  backend_->Answer(true);
  for (std::thread& caller : callers) {
    caller.join();
  }
  EXPECT_EQ(ready, 8);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::starts), 1);
}

TEST_F(MachineTest, AFailedStartIsAnErrorWithItsReasonAndCanBeTriedAgain) {
  backend_->start_status = absl::FailedPreconditionError("containerd is not installed");
  const absl::Status status = machine().EnsureReady();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(machine().status().state, MachineState::kError);
  EXPECT_EQ(machine().status().error, "start the machine: containerd is not installed");
  {
    absl::MutexLock lock(&backend_->mutex);
    backend_->start_status = absl::OkStatus();
  }
  EXPECT_TRUE(machine().EnsureReady().ok());
  EXPECT_EQ(machine().status().error, "");
}

TEST_F(MachineTest, ABootThatTakesTooLongIsEndedAndShowsTheConsole) {
  options_.boot_timeout = absl::Milliseconds(30);
  backend_->answers_after_start = false;
  const absl::Status status = machine().EnsureReady();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_EQ(LogOf(status), std::vector<std::string>{"the last words"});
  EXPECT_EQ(backend_->state(), PowerState::kOff);
}

TEST_F(MachineTest, AMachineThatDiesWhileItBootsIsAnErrorAtOnce) {
  backend_->answers_after_start = false;
  machine();
  std::thread caller(
      [&] { EXPECT_EQ(machine().EnsureReady().code(), absl::StatusCode::kUnavailable); });
  EXPECT_TRUE(Eventually([&] { return backend_->state() == PowerState::kOn; }));
  backend_->Set(PowerState::kOff).IgnoreError();
  caller.join();
}

TEST_F(MachineTest, ADeadMachineIsBroughtBack) {
  ASSERT_TRUE(machine().EnsureReady().ok());
  backend_->Set(PowerState::kOff).IgnoreError();
  EXPECT_TRUE(Eventually([&] { return machine().status().recoveries == 1; }));
  EXPECT_EQ(machine().status().recovery_cause, "the machine died");
  EXPECT_TRUE(machine().EnsureReady().ok());
  EXPECT_EQ(backend_->Count(&ScriptedMachine::starts), 2);
}

TEST_F(MachineTest, AHungMachineIsForcedDownAndBroughtBack) {
  ASSERT_TRUE(machine().EnsureReady().ok());
  backend_->Answer(false);
  EXPECT_TRUE(Eventually([&] { return machine().status().recoveries == 1; }));
  EXPECT_NE(machine().status().recovery_cause.find("heartbeats"), std::string::npos);
  EXPECT_TRUE(Becomes(MachineState::kReady));
  EXPECT_EQ(backend_->Count(&ScriptedMachine::forced), 1);
}

TEST_F(MachineTest, AMachineThatIsHeldForRoomSaysSoAndGoesOnByItself) {
  ASSERT_TRUE(machine().EnsureReady().ok());
  backend_->Hold();
  ASSERT_TRUE(Becomes(MachineState::kPaused));
  EXPECT_NE(machine().status().error.find("the disk is full"), std::string::npos);
  const absl::Status asked = machine().EnsureReady();
  EXPECT_EQ(ReasonOf(asked), Reason::kDiskLow) << asked;
  const int before = backend_->Count(&ScriptedMachine::hindrance_asked);
  ASSERT_TRUE(Eventually([&] {
    return backend_->Count(&ScriptedMachine::hindrance_asked) >
           before + 2 * options_.missed_heartbeats;
  }));
  EXPECT_EQ(backend_->Count(&ScriptedMachine::kills), 0) << "a machine that only waits was killed";
  backend_->GiveRoom();
  EXPECT_TRUE(Becomes(MachineState::kReady));
  EXPECT_EQ(machine().status().error, "");
  EXPECT_EQ(machine().status().recoveries, 0);
  EXPECT_TRUE(machine().EnsureReady().ok());
}

TEST_F(MachineTest, ANewVibedFindsAHeldMachineAndLeavesItAlone) {
  options_.boot_timeout = options_.heartbeat * 3;
  {
    absl::MutexLock lock(&backend_->mutex);
    backend_->power = PowerState::kOn;
    backend_->answers_after_start = false;
    backend_->hindrance = "the disk is full";
    backend_->held = true;
  }
  machine().Adopt();
  ASSERT_TRUE(Becomes(MachineState::kPaused));
  absl::SleepFor(options_.boot_timeout * 3);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::kills), 0) << "a machine that only waits was killed";
  backend_->GiveRoom();
  EXPECT_TRUE(Becomes(MachineState::kReady));
  EXPECT_EQ(backend_->Count(&ScriptedMachine::kills), 0);
}

TEST_F(MachineTest, AMachineThatIsHeldIsStoppedWithoutBeingAsked) {
  ASSERT_TRUE(machine().EnsureReady().ok());
  backend_->Hold();
  ASSERT_TRUE(Becomes(MachineState::kPaused));
  bool asked = false;
  EXPECT_TRUE(machine()
                  .Stop([&] {
                    asked = true;
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_FALSE(asked);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::shutdown_requests), 0);
  EXPECT_EQ(machine().status().state, MachineState::kStopped);
}

TEST_F(MachineTest, AMachineThatDiedOnAFullDiskComesBackWhenThereIsRoom) {
  ASSERT_TRUE(machine().EnsureReady().ok());
  {
    absl::MutexLock lock(&backend_->mutex);
    backend_->hindrance = "the disk is full";
    backend_->start_status = absl::ResourceExhaustedError("the disk is full");
    backend_->power = PowerState::kOff;
  }
  ASSERT_TRUE(Becomes(MachineState::kError));
  EXPECT_NE(machine().status().error.find("the disk is full"), std::string::npos);
  EXPECT_FALSE(machine().EnsureReady().ok());  // who asks meanwhile does not end the waiting
  const int before = backend_->Count(&ScriptedMachine::hindrance_asked);
  ASSERT_TRUE(
      Eventually([&] { return backend_->Count(&ScriptedMachine::hindrance_asked) > before + 10; }));
  EXPECT_EQ(machine().status().recoveries, 0) << "a full disk used up the tries";
  {
    absl::MutexLock lock(&backend_->mutex);
    backend_->hindrance.clear();
    backend_->start_status = absl::OkStatus();
  }
  EXPECT_TRUE(Becomes(MachineState::kReady));
  EXPECT_EQ(machine().status().recoveries, 1);
}

TEST_F(MachineTest, WhatWaitsForRoomAndIsStoppedStaysStopped) {
  ASSERT_TRUE(machine().EnsureReady().ok());
  {
    absl::MutexLock lock(&backend_->mutex);
    backend_->hindrance = "the disk is full";
    backend_->power = PowerState::kOff;
  }
  ASSERT_TRUE(Becomes(MachineState::kError));
  ASSERT_TRUE(machine().Stop({}).ok());
  backend_->GiveRoom();
  absl::SleepFor(options_.heartbeat * 5);
  EXPECT_EQ(machine().status().state, MachineState::kStopped);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::starts), 1);
}

TEST_F(MachineTest, AFewMissedHeartbeatsAreNothing) {
  options_.missed_heartbeats = 1000;
  ASSERT_TRUE(machine().EnsureReady().ok());
  const int before = backend_->Count(&ScriptedMachine::probes);
  backend_->Answer(false);
  EXPECT_TRUE(Eventually([&] { return backend_->Count(&ScriptedMachine::probes) > before + 5; }));
  backend_->Answer(true);
  EXPECT_EQ(machine().status().state, MachineState::kReady);
  EXPECT_EQ(machine().status().recoveries, 0);
}

TEST_F(MachineTest, AHeartbeatThatAStopOutlivedSaysNothingOfTheNextBoot) {
  options_.heartbeat = absl::Seconds(2);  // the next one comes after the end of this test
  std::atomic<bool> wait{false};
  absl::Notification waits, go_on;
  Machine machine(
      std::move(owned_),
      [&]() -> absl::Status {
        if (!wait.exchange(false)) {
          return backend_->Health();
        }
        waits.Notify();
        go_on.WaitForNotification();
        return absl::UnavailableError("no answer");
      },
      options_);
  ASSERT_TRUE(machine.EnsureReady().ok());
  wait = true;
  ASSERT_TRUE(waits.WaitForNotificationWithTimeout(kPatience));
  ASSERT_TRUE(machine.Stop(nullptr).ok());
  ASSERT_TRUE(machine.EnsureReady().ok());
  ASSERT_TRUE(backend_->Set(PowerState::kPaused).ok());  // as one is that starts just now
  go_on.Notify();
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_EQ(machine.status().state, MachineState::kReady);
}

TEST_F(MachineTest, AMachineThatKeepsDyingStaysDownUntilSomebodyAsks) {
  ASSERT_TRUE(machine().EnsureReady().ok());
  {
    absl::MutexLock lock(&backend_->mutex);
    backend_->start_status = absl::InternalError("no memory");
    backend_->power = PowerState::kOff;
  }
  EXPECT_TRUE(Becomes(MachineState::kError));
  EXPECT_EQ(machine().status().recoveries, 3);
  EXPECT_NE(machine().status().error.find("no memory"), std::string::npos)
      << machine().status().error;
  {
    absl::MutexLock lock(&backend_->mutex);
    backend_->start_status = absl::OkStatus();
  }
  EXPECT_TRUE(machine().EnsureReady().ok());
}

TEST_F(MachineTest, StopAsksTheSupervisorThenTheBackend) {
  ASSERT_TRUE(machine().EnsureReady().ok());
  bool asked = false;
  EXPECT_TRUE(machine()
                  .Stop([&] {
                    asked = true;
                    EXPECT_EQ(backend_->state(), PowerState::kOn);
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_TRUE(asked);
  EXPECT_EQ(machine().status().state, MachineState::kStopped);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::shutdown_requests), 1);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::forced), 0);
  EXPECT_EQ(machine().Dial(1024).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(MachineTest, AMachineThatDoesNotPowerOffIsForced) {
  backend_->obeys_shutdown = false;
  ASSERT_TRUE(machine().EnsureReady().ok());
  EXPECT_TRUE(machine().Stop([] { return absl::DeadlineExceededError("hung"); }).ok());
  EXPECT_EQ(machine().status().state, MachineState::kStopped);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::forced), 1);
}

TEST_F(MachineTest, StopEndsABoot) {
  backend_->answers_after_start = false;
  machine();
  std::thread caller(
      [&] { EXPECT_EQ(machine().EnsureReady().code(), absl::StatusCode::kCancelled); });
  EXPECT_TRUE(Becomes(MachineState::kBooting));
  EXPECT_TRUE(machine().Stop(nullptr).ok());
  caller.join();
  EXPECT_EQ(machine().status().state, MachineState::kStopped);
  EXPECT_EQ(backend_->state(), PowerState::kOff);
}

TEST_F(MachineTest, StoppingAStoppedMachineIsFine) {
  EXPECT_TRUE(machine().Stop(nullptr).ok());
  EXPECT_EQ(backend_->Count(&ScriptedMachine::shutdown_requests), 0);
}

TEST_F(MachineTest, AdoptTakesOverAMachineThatRunsWithoutStartingOne) {
  machine().Adopt();
  EXPECT_EQ(machine().status().state, MachineState::kStopped);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::starts), 0);
  backend_->Answer(true);
  backend_->Set(PowerState::kOn).IgnoreError();
  machine().Adopt();
  EXPECT_EQ(machine().status().state, MachineState::kReady);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::starts), 0);
  EXPECT_EQ(machine().status().recoveries, 0);
}

TEST_F(MachineTest, AdoptRepairsAMachineThatDoesNotAnswer) {
  options_.boot_timeout = absl::Milliseconds(50);
  backend_->power = PowerState::kOn;
  backend_->answers_after_start = false;
  machine().Adopt();
  EXPECT_EQ(machine().status().state, MachineState::kBooting);
  {
    absl::MutexLock lock(&backend_->mutex);
    backend_->answers_after_start = true;
  }
  EXPECT_TRUE(Becomes(MachineState::kReady));
}

TEST_F(MachineTest, APausedMachineIsResumedWhenItIsNeeded) {
  backend_->power = PowerState::kPaused;
  backend_->answers = true;
  machine().Adopt();
  EXPECT_EQ(machine().status().state, MachineState::kPaused);
  EXPECT_TRUE(machine().EnsureReady().ok());
  EXPECT_EQ(backend_->Count(&ScriptedMachine::resumes), 1);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::starts), 0);
}

absl::Status Fine() {
  return absl::OkStatus();
}

TEST_F(MachineTest, ASuspendedMachineGoesOnAtTheNextStart) {
  ASSERT_TRUE(machine().EnsureReady().ok());
  EXPECT_FALSE(machine().status().resumed);
  bool synced = false;
  EXPECT_TRUE(machine()
                  .Suspend(
                      [&] {
                        synced = true;
                        EXPECT_EQ(backend_->state(), PowerState::kOn);
                        return absl::OkStatus();
                      },
                      [] {
                        ADD_FAILURE() << "the projects were stopped";
                        return absl::OkStatus();
                      })
                  .ok());
  EXPECT_TRUE(synced);
  EXPECT_EQ(machine().status().state, MachineState::kStopped);
  EXPECT_TRUE(machine().status().suspended);
  EXPECT_EQ(machine().status().save_error, "");
  EXPECT_EQ(backend_->Count(&ScriptedMachine::shutdown_requests), 0);
  EXPECT_EQ(machine().Dial(1024).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(machine().Suspend(Fine, Fine).ok()) << "it is suspended";
  EXPECT_TRUE(machine().status().suspended);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::suspends), 1);

  EXPECT_TRUE(machine().EnsureReady().ok());
  EXPECT_TRUE(machine().status().resumed);
  EXPECT_FALSE(machine().status().suspended);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::starts), 2);
}

TEST_F(MachineTest, WhatCannotBeSavedIsStoppedAndSaysWhy) {
  const auto ends = [&](const std::function<absl::Status()>& prepare, const std::string& why) {
    ASSERT_TRUE(machine().EnsureReady().ok());
    bool asked = false;
    EXPECT_TRUE(machine()
                    .Suspend(prepare,
                             [&] {
                               asked = true;
                               return absl::OkStatus();
                             })
                    .ok());
    EXPECT_TRUE(asked) << "the projects were not stopped: " << why;
    EXPECT_EQ(machine().status().state, MachineState::kStopped);
    EXPECT_FALSE(machine().status().suspended);
    EXPECT_EQ(machine().status().save_error, why);
    EXPECT_EQ(backend_->state(), PowerState::kOff);
  };
  backend_->can_save = false;
  ends(Fine, "this machine cannot be saved");
  backend_->can_save = true;
  ends([] { return absl::DeadlineExceededError("the disk is slow"); }, "the disk is slow");
  backend_->suspend_status = absl::ResourceExhaustedError("no space is left");
  ends(Fine, "no space is left");
  EXPECT_EQ(backend_->Count(&ScriptedMachine::shutdown_requests), 3);
  ASSERT_TRUE(machine().EnsureReady().ok());
  EXPECT_EQ(machine().status().save_error, "");
}

TEST_F(MachineTest, AResumedMachineThatDoesNotAnswerIsBooted) {
  options_.resume_timeout = absl::Milliseconds(30);
  ASSERT_TRUE(machine().EnsureReady().ok());
  ASSERT_TRUE(machine().Suspend(Fine, Fine).ok());
  backend_->answers_after_resume = false;
  EXPECT_TRUE(machine().EnsureReady().ok());
  EXPECT_FALSE(machine().status().resumed);
  EXPECT_NE(machine().status().save_error.find("was thrown away: the machine did not answer"),
            std::string::npos)
      << machine().status().save_error;
  EXPECT_EQ(backend_->Count(&ScriptedMachine::forced), 1);
  EXPECT_EQ(backend_->Count(&ScriptedMachine::starts), 3);
}

TEST_F(MachineTest, StoppingASuspendedMachineLetsItsProjectsEnd) {
  ASSERT_TRUE(machine().EnsureReady().ok());
  ASSERT_TRUE(machine().Suspend(Fine, Fine).ok());
  bool asked = false;
  EXPECT_TRUE(machine()
                  .Stop([&] {
                    asked = true;
                    EXPECT_EQ(backend_->state(), PowerState::kOn);
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_TRUE(asked);
  EXPECT_FALSE(machine().status().suspended);
  EXPECT_EQ(backend_->state(), PowerState::kOff);
}

TEST_F(MachineTest, ADeadMachineIsNotBroughtBackFromASave) {
  ASSERT_TRUE(machine().EnsureReady().ok());
  ASSERT_TRUE(machine().Suspend(Fine, Fine).ok());
  ASSERT_TRUE(machine().EnsureReady().ok());
  backend_->Set(PowerState::kOff).IgnoreError();
  EXPECT_TRUE(Eventually([&] { return machine().status().recoveries == 1; }));
  EXPECT_TRUE(machine().EnsureReady().ok());
  EXPECT_FALSE(machine().status().resumed);
}

TEST_F(MachineTest, ResetErasesOnlyWhileTheMachineIsOff) {
  ASSERT_TRUE(machine().EnsureReady().ok());
  int asked = 0;
  const absl::Status status = machine().Reset(
      [&] {
        ++asked;
        return absl::OkStatus();
      },
      [&](const std::vector<std::filesystem::path>&) {
        EXPECT_EQ(backend_->state(), PowerState::kOff);
        EXPECT_EQ(machine().status().state, MachineState::kShuttingDown);
        return absl::UnavailableError("the disk is in the way");
      });
  EXPECT_EQ(status.message(), "the disk is in the way");
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(machine().status().state, MachineState::kStopped);
  EXPECT_TRUE(machine().EnsureReady().ok());
}

TEST(GuestFault, IsTheFirstOfTheLastBoot) {
  const GuestFault fault = FindGuestFault(
      {"2026-01-31T12:00:00.000Z ---- start", "x vibe-init: error: network: an earlier boot",
       "x ---- start", "x vibe-init: error: data disk: it is not empty\r",
       "x vibe-init:   BTRFS: no", "x vibe-init: advice: give it up\r",
       "x vibe-init: error: fatal: there is no data disk"});
  EXPECT_EQ(fault.message, "data disk: it is not empty");
  EXPECT_EQ(fault.advice, "give it up");
  EXPECT_EQ(FindGuestFault({"the last words"}).message, "");
}

}  // namespace
}  // namespace vibe::vm
