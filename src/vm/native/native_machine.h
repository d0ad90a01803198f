// The machine without a virtual machine: vibe-native-init (src/init) holds containerd and the
// supervisor in namespaces of their own on this host's kernel. docs/native-machine.md says what
// that isolates. Linux, root. The machine outlives this object and this process.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "vm/native/cgroup.h"
#include "vm/native/layout.h"
#include "vm/virtual_machine.h"

namespace vibe::vm::native {

class NativeMachine : public VirtualMachine {
 public:
  struct Options {
    std::filesystem::path directory;                       // the machine's own; made when missing
    std::filesystem::path init_program;                    // vibe-native-init
    std::vector<std::string> init_arguments = {};          // added to its command line
    std::function<absl::StatusOr<uint64_t>()> disk_bytes;  // of the data disk; asked at each start
    absl::Duration start_timeout = absl::Seconds(30);
    absl::Duration kill_timeout = absl::Seconds(15);
  };
  explicit NativeMachine(Options options);

  std::string name() const override { return "native"; }
  absl::Status Start() override;
  absl::StatusOr<UniqueFd> Dial(uint32_t port) override;
  absl::Status RequestShutdown() override;
  absl::Status Kill() override;
  absl::Status Pause() override;
  absl::Status Resume() override;
  PowerState state() const override;
  std::string Hindrance() override;
  std::vector<std::string> LastLog() const override;
  std::filesystem::path ConsoleLog() const override { return layout_.console_log(); }
  std::vector<std::filesystem::path> DataPaths() const override { return {layout_.disk()}; }

 private:
  absl::StatusOr<Cgroup> MachineCgroup() const;
  absl::StatusOr<UniqueFd> Process() const;  // NotFound when no machine runs
  absl::Status SetFrozen(bool frozen);

  const Options options_;
  const Layout layout_;
  absl::Mutex power_;  // held while the machine is started, ended, paused or resumed
};

}  // namespace vibe::vm::native
