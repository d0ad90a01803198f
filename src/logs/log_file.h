// A service's output on disk: one text file per service, a record a line, as Kubernetes' CRI writes
// it:
//   2026-01-02T03:04:05.123456789Z stdout F text of a whole line
//   2026-01-02T03:04:05.123456789Z stderr P first part of a line longer than 16 KiB
// LogWriter rotates: `web.log` becomes `web.log.1` and so on up to kMaxRotated; the oldest is
// removed. Written by vibe-logger (one process per container), read by the supervisor.
// docs/formats/logs.md has the whole format. kMaxLineBytes, kMaxFileBytes, kMaxRotated and Stream
// are in record_line.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "logs/record_line.h"

namespace vibe::logs {

// A line that is longer comes in pieces of about this length, all but the last with `partial`.
inline constexpr size_t kMaxJoinedBytes = 256 << 10;

struct Record {
  absl::Time time = {};
  Stream stream = Stream::kStdout;
  bool partial = false;  // the line goes on in the next record of this stream
  std::string text;      // without the newline; any bytes, NUL and invalid UTF-8 too
};

std::string FormatRecord(const Record& record);              // with the newline
absl::StatusOr<Record> ParseRecord(absl::string_view line);  // without the newline

class RotatingFile;

// Appends and rotates. Not thread-safe; one writer per file at a time.
class LogWriter {
 public:
  static absl::StatusOr<LogWriter> Open(const std::filesystem::path& path);
  LogWriter(LogWriter&&) noexcept;
  LogWriter& operator=(LogWriter&&) noexcept;
  ~LogWriter();
  // A text over kMaxLineBytes becomes several records. After an error the record is not in the
  // file.
  absl::Status Append(const Record& record);

 private:
  explicit LogWriter(std::unique_ptr<RotatingFile> file);
  std::unique_ptr<RotatingFile> file_;
};

// The last `count` whole lines (partial records joined), oldest first. A file that is not there has
// none. Looks at the end of the file only. A line that is still being written is left out.
absl::StatusOr<std::vector<Record>> ReadTail(const std::filesystem::path& path, size_t count);

// Follows a log through rotations. Not thread-safe.
class LogFollower {
 public:
  explicit LogFollower(
      std::filesystem::path path);  // starts after what ReadTail would have read now
  ~LogFollower();
  LogFollower(LogFollower&&) noexcept;
  // The last `count` whole lines before the place where ReadNew starts: no line is in both or in
  // neither. FailedPrecondition after the first ReadNew.
  absl::StatusOr<std::vector<Record>> ReadTail(size_t count);
  // Whole lines that came since the last call; empty when none did. Does not block. After a burst
  // it gives a few MiB at a time: call it again at once until it gives nothing.
  absl::StatusOr<std::vector<Record>> ReadNew();

 private:
  struct Position;
  std::unique_ptr<Position> position_;
};

}  // namespace vibe::logs
