// Starts programs that run beside their init, and the descriptor by which the init learns that one
// ended. For processes with one thread.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace vibe::init {

struct ChildOptions {
  std::vector<std::string> args;  // args[0] is the program's path
  std::vector<std::string> env;   // all of it: "NAME=value"
  int output = -1;                // becomes standard output and error; -1 keeps ours
  std::vector<std::pair<int, int>> descriptors = {};  // (ours, number in the child from 3)
  bool dies_with_parent = false;
};

// The child has a session of its own, no input and no blocked signals. A program that cannot be
// executed ends with 127 and a line in its output.
absl::StatusOr<pid_t> StartChild(const ChildOptions& options);

// Blocks SIGCHLD, SIGTERM and SIGINT and returns a descriptor to read them from without blocking.
absl::StatusOr<UniqueFd> SignalDescriptor();
// The next signal that waits, or 0.
int NextSignal(const UniqueFd& signals);

// "was killed by signal 9", "ended with status 1"
std::string DescribeEnd(int wait_status);

}  // namespace vibe::init
