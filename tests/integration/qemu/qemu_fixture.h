// Virtual machines in directories of their own, with the real guest; whatever a test leaves is
// ended and removed, by id.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "host/supervisor_client.h"
#include "vm/qemu/layout.h"
#include "vm/qemu/qemu_machine.h"

namespace vibe::vm::qemu::testing {

bool Eventually(const std::function<bool()>& condition,
                absl::Duration patience = absl::Seconds(15));

class QemuMachineTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // The machine of this test's directory, as one more vibed has it.
  std::unique_ptr<QemuMachine> Host(std::optional<Transport> transport = {});
  // Starts it and waits until the supervisor answers.
  ::testing::AssertionResult Boots(QemuMachine& machine);
  absl::Duration answered_after_;  // by the last Boots, from the call of Start
  // What the next Host has; its image is where VIBE_VM_IMAGE or the build says when empty.
  GuestOptions size_ = {.cpus = 2, .memory_mib = 1024, .disk_mib = 8192};
  std::vector<std::filesystem::path> images_;
  std::string Console() const;
  // Processes with the machine's directory in their command line.
  std::vector<pid_t> Processes() const;
  pid_t Find(const std::string& program) const;               // one of them; 0 when there is none
  bool Signal(const std::string& program, int signal) const;  // false when there is none

  std::filesystem::path directory_;
  Layout layout_;
};

}  // namespace vibe::vm::qemu::testing
