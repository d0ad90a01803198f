// A real virtual machine on macOS 12 and later, by Apple's Virtualization framework. This header is
// plain C++; what is behind it is Objective-C++. docs/macos.md says what it needs.
//
// The machine belongs to this process: it goes off when the process ends, however that happens, and
// no other process can find it again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "vm/guest_image.h"
#include "vm/guest_options.h"
#include "vm/virtual_machine.h"

namespace vibe::vm::vz {

// Thread-safe. The framework is called on a queue of the machine's own; callers wait for it, each
// with a deadline, so no call blocks for ever, and none may be made from that queue.
class VzMachine : public VirtualMachine {
 public:
  struct Options {
    std::filesystem::path directory;  // the machine's own: data disk and console log; made
    GuestImage image;
    GuestOptions guest;
    absl::Duration start_timeout = absl::Seconds(30);
    absl::Duration dial_timeout = absl::Seconds(2);
    absl::Duration pause_timeout = absl::Seconds(10);
    absl::Duration kill_timeout = absl::Seconds(15);
    // How long the destructor gives a machine that still runs to power off by itself: a little more
    // than the guest takes at most.
    absl::Duration farewell_timeout = absl::Seconds(20);
  };
  explicit VzMachine(Options options);
  ~VzMachine() override;

  std::string name() const override { return "vz"; }
  absl::Status Start() override;
  absl::StatusOr<UniqueFd> Dial(uint32_t port) override;
  absl::Status RequestShutdown() override;
  absl::Status Kill() override;
  absl::Status Pause() override;
  absl::Status Resume() override;
  PowerState state() const override;
  std::vector<std::string> LastLog() const override;
  std::filesystem::path ConsoleLog() const override;
  std::vector<std::filesystem::path> DataPaths() const override;

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

// Why this Mac, or this program as it is signed, cannot have such a machine; ok when it can.
absl::Status CheckVirtualization();

}  // namespace vibe::vm::vz
