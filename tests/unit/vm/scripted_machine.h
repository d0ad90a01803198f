// A VirtualMachine that does what a test says, and counts what it was asked. Thread-safe.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "vm/virtual_machine.h"

namespace vibe::vm::testing {

class ScriptedMachine : public VirtualMachine {
 public:
  std::string name() const override { return "scripted"; }

  absl::Status Start() override {
    absl::MutexLock lock(&mutex);
    ++starts;
    if (start_status.ok()) {
      power = PowerState::kOn;
      goes_on = std::exchange(saved, false);
      answers = goes_on ? answers_after_resume : answers_after_start;
    }
    return start_status;
  }
  absl::StatusOr<UniqueFd> Dial(uint32_t) override {
    return absl::UnavailableError("nobody listens");
  }
  absl::Status RequestShutdown() override {
    absl::MutexLock lock(&mutex);
    ++shutdown_requests;
    if (obeys_shutdown) {
      power = PowerState::kOff;
    }
    return absl::OkStatus();
  }
  absl::Status Kill() override {
    absl::MutexLock lock(&mutex);
    ++kills;
    if (power != PowerState::kOff) {
      ++forced;
    }
    power = PowerState::kOff;
    saved = false;
    return absl::OkStatus();
  }
  absl::Status Pause() override { return Set(PowerState::kPaused); }
  absl::Status Resume() override {
    absl::MutexLock lock(&mutex);
    ++resumes;
    power = PowerState::kOn;
    return absl::OkStatus();
  }
  absl::Status Suspend() override {
    absl::MutexLock lock(&mutex);
    ++suspends;
    if (suspend_status.ok()) {
      power = PowerState::kOff;
      saved = true;
    }
    return suspend_status;
  }
  bool can_suspend() const override { return can_save; }
  bool suspended() const override {
    absl::MutexLock lock(&mutex);
    return saved;
  }
  bool resumed() const override {
    absl::MutexLock lock(&mutex);
    return goes_on;
  }
  PowerState state() const override {
    absl::MutexLock lock(&mutex);
    return power;
  }
  // One that is held goes on when it is asked after there was room again.
  std::string Hindrance() override {
    absl::MutexLock lock(&mutex);
    ++hindrance_asked;
    if (hindrance.empty() && std::exchange(held, false)) {
      answers = true;
    }
    return power == PowerState::kOff || held ? hindrance : "";
  }
  std::vector<std::string> LastLog() const override { return {"the last words"}; }

  absl::Status Set(PowerState next) {
    absl::MutexLock lock(&mutex);
    power = next;
    return absl::OkStatus();
  }
  void Answer(bool yes) {
    absl::MutexLock lock(&mutex);
    answers = yes;
  }
  // As a machine is that its hypervisor stopped since the disk is full.
  void Hold() {
    absl::MutexLock lock(&mutex);
    hindrance = "the disk is full";
    held = true;
    answers = false;
  }
  void GiveRoom() {
    absl::MutexLock lock(&mutex);
    hindrance.clear();
  }
  // What Machine::Probe asks.
  absl::Status Health() const {
    absl::MutexLock lock(&mutex);
    ++probes;
    return power == PowerState::kOn && answers ? absl::OkStatus()
                                               : absl::UnavailableError("no answer");
  }
  int Count(const int ScriptedMachine::*counter) const {
    absl::MutexLock lock(&mutex);
    return this->*counter;
  }

  mutable absl::Mutex mutex;
  absl::Status start_status, suspend_status;
  PowerState power = PowerState::kOff;
  bool answers = false;
  std::string hindrance;  // of what is off, or held
  bool held = false;
  int hindrance_asked = 0;
  bool answers_after_start = true;
  bool answers_after_resume = true;
  bool can_save = true;
  bool saved = false, goes_on = false;
  bool obeys_shutdown = true;
  int starts = 0, kills = 0, forced = 0, shutdown_requests = 0, resumes = 0, suspends = 0;
  mutable int probes = 0;
};

}  // namespace vibe::vm::testing
