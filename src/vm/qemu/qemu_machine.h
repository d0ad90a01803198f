// The machine in a virtual machine: qemu, with KVM where guests run with it and in software where
// not. docs/qemu-machine.md says how it is put together. Linux; any user. The machine outlives this
// object and this process: vibe-qemu-keeper stays with it.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "vm/guest_options.h"
#include "vm/qemu/boot.h"
#include "vm/qemu/command_line.h"
#include "vm/qemu/layout.h"
#include "vm/qemu/qmp.h"
#include "vm/virtual_machine.h"

namespace vibe::vm::qemu {

class QemuMachine : public VirtualMachine {
 public:
  struct Options {
    std::filesystem::path directory;            // the machine's own; made when missing
    std::filesystem::path keeper;               // vibe-qemu-keeper
    std::vector<std::filesystem::path> images;  // where kernel and initrd are looked for
    // The guest's size; asked at each cold start.
    std::function<absl::StatusOr<GuestOptions>(bool emulated)> guest;
    std::optional<Transport> transport = {};  // instead of the best that the host has
    absl::Duration start_timeout = absl::Seconds(30);
    absl::Duration kill_timeout = absl::Seconds(10);
    absl::Duration control_timeout = absl::Seconds(3);  // for one conversation with qemu
    absl::Duration dial_timeout = absl::Seconds(3);
  };
  explicit QemuMachine(Options options);

  std::string name() const override { return "qemu"; }
  absl::Status Start() override;
  absl::StatusOr<UniqueFd> Dial(uint32_t port) override;
  absl::Status RequestShutdown() override;
  absl::Status Kill() override;
  absl::Status Pause() override;
  absl::Status Resume() override;
  PowerState state() const override;
  std::vector<std::string> LastLog() const override;

 private:
  absl::StatusOr<MachineSpec> Specify() const;
  absl::Status StartKeeper(const MachineSpec& spec) ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);
  absl::Status AwaitRunning() ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);
  absl::Status Signal(int signal) ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);  // qemu and the device
  absl::Status KillLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);
  absl::StatusOr<UniqueFd> Process() const;  // the keeper; NotFound when no machine runs
  absl::StatusOr<nlohmann::json> Control(const std::string& command) const
      ABSL_LOCKS_EXCLUDED(control_);
  absl::StatusOr<Boot> CurrentBoot() const;
  bool GuestIsReady() const;

  const Options options_;
  const Layout layout_;
  absl::Mutex power_;            // held while the machine is started, ended, paused or resumed
  mutable absl::Mutex control_;  // qemu talks with one at a time
};

}  // namespace vibe::vm::qemu
