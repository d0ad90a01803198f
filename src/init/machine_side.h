// The machine's half of vibe-native-init: process 1 in the machine's namespaces.
#pragma once

#include "base/unique_fd.h"
#include "init/plan.h"

namespace vibe::init {

// Waits for a byte on `go`, sets the machine up, writes "ok\n" or "error: …\n" to `report`, runs
// containerd and the supervisor until SIGTERM, powers off. Returns the exit status; the kernel then
// ends all that still runs in the machine.
int RunMachine(const Plan& plan, UniqueFd go, UniqueFd report);

}  // namespace vibe::init
