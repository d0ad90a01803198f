// The host's half of vibe-native-init: stays in the host's namespaces, holds the machine's lock and
// pid file, keeps slirp4netns running, and clears away when the machine is off.
#pragma once

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "init/log_pipe.h"
#include "init/plan.h"

namespace vibe::init {

// Runs the machine to its end. Writes "ok\n" or an error for the user (see main.cpp) to `report` as
// soon as it is known whether the machine runs. One thread; standard error must be the console's
// pipe.
int RunHost(Plan plan, LogPipe console, UniqueFd report);

}  // namespace vibe::init
