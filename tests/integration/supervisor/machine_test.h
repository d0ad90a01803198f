// A machine for each test, and an app's package in it. Skipped without root; shows the supervisor's
// log when a test fails.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "supervisor_machine.h"

namespace vibe::testing {

class MachineTest : public ::testing::Test {
 protected:
  // One that goes on from here looks at IsReady() first.
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    auto machine = SupervisorMachine::Start();
    ASSERT_TRUE(machine.ok()) << machine.status();
    machine_ = *std::move(machine);
    auto package = machine_->ImportPayload();
    ASSERT_TRUE(package.ok()) << package.status();
    package_ = *std::move(package);
  }

  void TearDown() override {
    if (HasFailure() && machine_ != nullptr) {
      std::cerr << "vibe-supervisor's log:\n" << machine_->log();
    }
  }

  bool IsReady() const { return !package_.empty(); }

  std::unique_ptr<SupervisorMachine> machine_;
  std::string package_;  // its digest
};

}  // namespace vibe::testing
