// Keeps one virtual machine: qemu, the vsock device when there is one, and the console's log. They
// end together, and none of them outlives the keeper. One thread.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace vibe::vm::qemu {

struct KeeperOptions {
  std::filesystem::path machine;    // its directory (layout.h)
  std::vector<std::string> device;  // the vsock device's command line; may be empty
  std::vector<std::string> qemu;
  std::string note;  // said in the console's log; may be empty
};

// Runs until qemu ends. Writes "ok\n" to `report` when qemu was started, or "error: …\n", and
// closes it. Returns the exit status.
int Keep(const KeeperOptions& options, UniqueFd report);

}  // namespace vibe::vm::qemu
