// A Linux machine that runs vibe-supervisor and containerd. Backends live in folders beside this
// file and know nothing of projects; vm/machine.h is the only one that calls them.
#pragma once

#include <cstdint>
#include <filesystem>
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

  // Starts the machine, or finds again one that an earlier process started. A suspended machine
  // goes on where it was; one whose save is stale or broken is booted, and the save is gone.
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

  // Saves the running guest with its memory, so that the next Start goes on with it, and ends the
  // machine; returns when nothing of it runs. What must be on the data disk should the save be lost
  // has to be synced before. After an error the guest runs on or does not: the machine is to be
  // powered off. Unimplemented where machines cannot be saved.
  virtual absl::Status Suspend() { return absl::UnimplementedError("this machine is not saved"); }
  virtual bool can_suspend() const { return false; }
  // A save is there that the next Start tries, once.
  virtual bool suspended() const { return false; }
  // The machine that the last Start of this object started goes on from a save.
  virtual bool resumed() const { return false; }
  // Why the machine does not work though nothing is wrong with it: the host's disk is full. Empty
  // when nothing keeps it. A guest that the hypervisor holds for that goes on in this call once
  // there is room. Of a machine that is off: what a start would meet.
  virtual std::string Hindrance() { return ""; }
  // The last lines of the machine's console, for errors; empty when there are none.
  virtual std::vector<std::string> LastLog() const { return {}; }
  // The file that gets what the console says, each line with its time; what was before is beside
  // it, with ".1" behind its name. Neither need be there.
  virtual std::filesystem::path ConsoleLog() const { return {}; }
  // The files and folders that are the machine's data: without them the next Start begins with an
  // empty machine. Not all need be there. To be touched only while the machine is off.
  virtual std::vector<std::filesystem::path> DataPaths() const { return {}; }
};

}  // namespace vibe::vm
