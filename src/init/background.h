// A program that starts a machine, leaves it with a process of its own in the background, and ends
// when that one has reported. For programs of one thread.
#pragma once

#include <filesystem>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace vibe::init {

// Excludes another machine in `directory` as long as the result, or a copy that a child inherited,
// lives; waits a moment for one that is ending.
absl::StatusOr<UniqueFd> LockMachine(const std::filesystem::path& lock,
                                     const std::filesystem::path& directory);

// Says what is wrong, as vibed reads it. Returns the program's exit code.
int Fail(const absl::Status& status);

// What `run` below has to report: "ok", or the error; closes it. Does nothing when that was done.
void ReportStart(UniqueFd& report, const absl::Status& status);

// Forks. The child leaves its session, directory and signals, and ends with what `run` returns;
// `run` reports with ReportStart. Returns the program's exit
// code; `ended` is the error when nothing was reported.
int StartInBackground(const std::function<int(UniqueFd report)>& run, absl::string_view ended);

}  // namespace vibe::init
