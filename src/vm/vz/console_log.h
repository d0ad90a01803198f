// The guest's console in a file of bounded size. Whole lines are written as they come, so that what
// a dying kernel says is there. Thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "logs/rotating_file.h"

namespace vibe::vm::vz {

// One file of `max_bytes` and one rotated away, `path` with ".1" behind.
class ConsoleLog {
 public:
  static absl::StatusOr<std::unique_ptr<ConsoleLog>> Open(const std::filesystem::path& path,
                                                          int64_t max_bytes);
  // Writes what has come until now and ends; a writer that still exists gets EPIPE.
  ~ConsoleLog();

  // The end that the guest's console writes to. Once.
  UniqueFd TakeWriter() { return std::move(writer_); }

  // A line of ours among the guest's.
  void Note(absl::string_view line);

 private:
  ConsoleLog(const std::filesystem::path& path, int64_t max_bytes);
  void Pump();
  bool ReadSome();  // false at the end
  void Write(absl::string_view line) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  logs::RotatingFile file_ ABSL_GUARDED_BY(mutex_);
  UniqueFd reader_, writer_, quit_reader_, quit_writer_;
  std::string partial_;  // the thread's own
  std::thread thread_;
};

// The last lines of a ConsoleLog's file, the rotated one included; empty when there is none.
std::vector<std::string> LastConsoleLines(const std::filesystem::path& path, size_t max_lines);

}  // namespace vibe::vm::vz
