// Runs another program to its end, with its input and output in memory. Blocking; thread-safe.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace vibe {

struct SubprocessOptions {
  std::vector<std::string> args;  // args[0] is looked up in PATH when it has no '/'
  std::string input = {};         // given on standard input
  std::vector<std::pair<std::string, std::string>> env = {};  // added to ours
  absl::Duration timeout = absl::Seconds(30);                 // then SIGKILL and DeadlineExceeded
  size_t max_output = 1 << 20;  // bytes of stdout and of stderr; more is cut off
};

struct SubprocessResult {
  int exit_code = 0;  // 128+n when signal n ended it
  std::string out;
  std::string err;
};

// An error means that the program could not be run or took too long; a program that fails is a
// result.
absl::StatusOr<SubprocessResult> RunSubprocess(const SubprocessOptions& options);

}  // namespace vibe
