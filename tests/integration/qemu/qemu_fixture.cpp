#include "qemu_fixture.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "rpc/ports.h"
#include "vm/guest_image.h"

namespace vibe::vm::qemu::testing {
namespace fs = std::filesystem;
namespace {

// Software emulation on a machine that does other things too.
constexpr absl::Duration kBootLimit = absl::Seconds(90);

}  // namespace

bool Eventually(const std::function<bool()>& condition, absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  while (!condition()) {
    if (absl::Now() >= deadline) {
      return false;
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
  return true;
}

void QemuMachineTest::SetUp() {
  std::string pattern = "/tmp/vibe-qemu-XXXXXX";  // short: sockets' addresses are
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  directory_ = pattern;
  layout_.directory = directory_ / "m";
}

void QemuMachineTest::TearDown() {
  if (HasFailure()) {
    std::fprintf(stderr, "---- the machine's console:\n%s\n", Console().c_str());
  }
  EXPECT_TRUE(Host()->Kill().ok());
  EXPECT_TRUE(Processes().empty()) << "processes of the machine are left";
  for (const pid_t pid : Processes()) {
    ::kill(pid, SIGKILL);
  }
  fs::remove_all(directory_);
}

std::unique_ptr<QemuMachine> QemuMachineTest::Host(std::optional<Transport> transport) {
  return std::make_unique<QemuMachine>(QemuMachine::Options{
      .directory = layout_.directory,
      .keeper = fs::path(VIBE_TEST_BIN_DIR) / "vibe-qemu-keeper",
      .images = images_.empty() ? GuestImageDirectories(VIBE_TEST_BIN_DIR) : images_,
      .guest = [this](bool) { return size_; },
      .transport = transport});
}

::testing::AssertionResult QemuMachineTest::Boots(QemuMachine& machine) {
  const absl::Time start = absl::Now();
  if (absl::Status status = machine.Start(); !status.ok()) {
    return ::testing::AssertionFailure() << status;
  }
  const absl::Duration started = absl::Now() - start;
  host::SupervisorClient supervisor([&] { return machine.Dial(rpc::kSupervisorPort); });
  absl::Status health;
  while (!(health = supervisor.Health().status()).ok()) {
    if (absl::Now() - start > kBootLimit || machine.state() == PowerState::kOff) {
      return ::testing::AssertionFailure() << health;
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  answered_after_ = absl::Now() - start;
  std::fprintf(stderr, "started after %s, answered after %s\n",
               absl::FormatDuration(started).c_str(),
               absl::FormatDuration(answered_after_).c_str());
  return ::testing::AssertionSuccess();
}

std::string QemuMachineTest::Console() const {
  const absl::StatusOr<std::string> text = ReadFile(layout_.console_log(), 16 << 20);
  return text.ok() ? *text : "";
}

std::vector<pid_t> QemuMachineTest::Processes() const {
  std::vector<pid_t> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", error)) {
    pid_t pid = 0;
    const absl::StatusOr<std::string> command = ReadFile(entry.path() / "cmdline", 1 << 20);
    if (absl::SimpleAtoi(entry.path().filename().string(), &pid) && command.ok() &&
        absl::StrContains(*command, layout_.directory.string())) {
      found.push_back(pid);
    }
  }
  return found;
}

pid_t QemuMachineTest::Find(const std::string& program) const {
  for (const pid_t pid : Processes()) {
    std::error_code error;
    const fs::path exe = fs::read_symlink(fs::path("/proc") / std::to_string(pid) / "exe", error);
    if (absl::StrContains(exe.filename().string(), program)) {
      return pid;
    }
  }
  return 0;
}

bool QemuMachineTest::Signal(const std::string& program, int signal) const {
  const pid_t pid = Find(program);
  return pid > 0 && ::kill(pid, signal) == 0;
}

}  // namespace vibe::vm::qemu::testing
