// The machine in a virtual machine: qemu, with KVM where guests run with it and in software where
// not. docs/qemu-machine.md says how it is put together. Linux; any user. The machine outlives this
// object and this process: vibe-qemu-keeper stays with it.
#pragma once

#include <atomic>
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
#include "vm/qemu/dial.h"
#include "vm/qemu/layout.h"
#include "vm/qemu/qmp.h"
#include "vm/qemu/save.h"
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
    absl::Duration save_timeout = absl::Seconds(30);    // without syncing the files
    absl::Duration resume_timeout = absl::Seconds(30);  // until the guest can be dialled
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
  absl::Status Suspend() override;
  bool can_suspend() const override;
  bool suspended() const override;
  bool resumed() const override { return resumed_; }
  std::string Hindrance() override;
  std::vector<std::string> LastLog() const override;
  std::filesystem::path ConsoleLog() const override { return layout_.console_log(); }
  std::vector<std::filesystem::path> DataPaths() const override {
    // What makes a save usable goes before the disk that it belongs to.
    return {layout_.save(), layout_.state(), layout_.memory(), layout_.disk()};
  }

 private:
  absl::StatusOr<MachineSpec> Specify() const;
  // `note` is said in the console's log.
  absl::Status StartKeeper(const MachineSpec& spec, const std::string& note)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);
  absl::Status BootGuest(const MachineSpec& spec, const std::string& note)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);
  absl::Status SaveGuest(const Boot& boot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);
  absl::Status ResumeGuest(MachineSpec spec, const OpenSave& save)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);
  absl::Status LoadGuest(const OpenSave& save, absl::Time deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);
  absl::Status AwaitDriver(const UniqueFd& caller, const Boot& boot, absl::Time deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);
  bool DriverRuns(absl::Time deadline) const ABSL_LOCKS_EXCLUDED(control_);
  // Why a machine that runs is of no use, or OK: an earlier vibed died while it saved or resumed
  // it, or left a record that nobody can read.
  absl::Status Usable() const;
  // qemu stopped the guest because a write to the data disk found no room.
  bool HeldForRoom() const;
  absl::Status AwaitRunning() ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);
  absl::Status Signal(int signal) ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);  // qemu and the device
  absl::Status EndProcesses() ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);
  absl::Status KillLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(power_);
  absl::StatusOr<UniqueFd> Process() const;  // the keeper; NotFound when no machine runs
  absl::StatusOr<nlohmann::json> Control(const std::string& command) const
      ABSL_LOCKS_EXCLUDED(control_);
  absl::StatusOr<Boot> CurrentBoot() const;
  bool GuestIsReady(const Boot& boot) const;

  const Options options_;
  const Layout layout_;
  Dialer dialer_;
  absl::Mutex power_;            // held while the machine is started, ended, paused or resumed
  mutable absl::Mutex control_;  // qemu talks with one at a time
  std::atomic<bool> resumed_ = false;
};

}  // namespace vibe::vm::qemu
