// A Linux machine that runs vibe-supervisor and containerd. Backends live in folders beside this
// file and know nothing of projects; vm/machine.h is the only one that calls them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace vibe::vm {

enum class PowerState { kOff, kOn, kPaused };

// Thread-safe. Calls may block: Start until the guest's kernel runs, Dial until connected or
// refused.
class VirtualMachine {
 public:
  virtual ~VirtualMachine() = default;

  virtual std::string name() const = 0;  // "native", "qemu", "vz"

  // Starts the machine, or finds again one that an earlier process started.
  virtual absl::Status Start() = 0;
  // A connected, private byte stream to a port of the machine. Unavailable when nobody listens
  // there.
  virtual absl::StatusOr<UniqueFd> Dial(uint32_t port) = 0;
  // Asks the guest to stop what runs and power off; returns at once.
  virtual absl::Status RequestShutdown() = 0;
  // Ends the machine now; returns when nothing of it is left.
  virtual absl::Status Kill() = 0;
  virtual absl::Status Pause() = 0;
  virtual absl::Status Resume() = 0;
  virtual PowerState state() const = 0;
  // The last lines of the machine's console, for errors; empty when there are none.
  virtual std::vector<std::string> LastLog() const { return {}; }
};

}  // namespace vibe::vm
