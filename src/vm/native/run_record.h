// Names one process for ever: its number, when it started and in which boot of the host, so that a
// number that was given to another process is never mistaken for it. The machine's pid file holds
// one. Thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace vibe::vm::native {

struct RunRecord {
  pid_t pid = 0;
  uint64_t start_time = 0;  // ticks since the host booted, as /proc/<pid>/stat has it
  std::string boot_id;

  bool operator==(const RunRecord&) const = default;
};

std::string FormatRecord(const RunRecord& record);
absl::StatusOr<RunRecord> ParseRecord(absl::string_view text);

// The start time in the text of /proc/<pid>/stat; NotFound for a process that ended and waits to be
// reaped.
absl::StatusOr<uint64_t> ParseStartTime(absl::string_view stat);

// NotFound when there is no such process.
absl::StatusOr<RunRecord> RecordOf(pid_t pid);

// A pidfd of exactly the recorded process; NotFound when it is gone.
absl::StatusOr<UniqueFd> OpenProcess(const RunRecord& record);

// The same for what the file `path` records; a file that is missing or makes no sense is NotFound.
absl::StatusOr<UniqueFd> OpenRecordedProcess(const std::filesystem::path& path);

}  // namespace vibe::vm::native
