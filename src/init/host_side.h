// The host's half of vibe-native-init: stays in the host's namespaces, holds the machine's lock and
// pid file, keeps slirp4netns running, and clears away when the machine is off.
#pragma once

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "init/log_pipe.h"
#include "init/plan.h"

namespace vibe::init {

// Excludes another machine in the same directory as long as the result lives; waits a moment for
// one that is ending.
absl::StatusOr<UniqueFd> LockMachine(const vm::native::Layout& layout);

// Runs the machine to its end. Writes "ok\n" or an error for the user (see main.cpp) to `report` as
// soon as it is known whether the machine runs. One thread; standard error must be the console's
// pipe.
int RunHost(Plan plan, LogPipe console, UniqueFd report);

}  // namespace vibe::init
