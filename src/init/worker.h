// Work that goes on beside an init, each piece in a process of its own, so that the init itself has
// one thread and waits for nothing.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "absl/status/status.h"

namespace vibe::init {

// Returns the process; it ends with 0, or with 1 after it has said why `step` failed. -1 when there
// can be no process.
// `nice` is as for nice(2): what others wait for goes first.
pid_t StartWorker(const std::string& name, int nice, const std::function<absl::Status()>& step);

// "error: message", the log and the advice, as lines on the console.
void SayError(const std::string& what, const absl::Status& status);

}  // namespace vibe::init
