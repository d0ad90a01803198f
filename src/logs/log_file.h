// A service's output on disk: one text file per service, a record a line, as Kubernetes' CRI writes it:
//   2026-01-02T03:04:05.123456789Z stdout F text of a whole line
//   2026-01-02T03:04:05.123456789Z stderr P first part of a line longer than 16 KiB
// LogWriter rotates: `web.log` becomes `web.log.1` and so on up to kMaxRotated; the oldest is removed.
// Written by vibe-logger (one process per container), read by the supervisor.
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

namespace vibe::logs {

inline constexpr size_t kMaxLineBytes = 16 << 10;
inline constexpr int64_t kMaxFileBytes = 10 << 20;
inline constexpr int kMaxRotated = 3;

enum class Stream { kStdout, kStderr };

struct Record {
  absl::Time time;
  Stream stream = Stream::kStdout;
  bool partial = false;  // the line goes on in the next record of this stream
  std::string text;      // without the newline
};

std::string FormatRecord(const Record& record);                     // with the newline
absl::StatusOr<Record> ParseRecord(absl::string_view line);  // without the newline

// Appends and rotates. Not thread-safe; one writer per file at a time.
class LogWriter {
 public:
  static absl::StatusOr<LogWriter> Open(const std::filesystem::path& path);
  LogWriter(LogWriter&&) noexcept;
  LogWriter& operator=(LogWriter&&) noexcept;
  ~LogWriter();
  absl::Status Append(const Record& record);

 private:
  LogWriter(std::filesystem::path path, int fd, int64_t size);
  std::filesystem::path path_;
  int fd_;
  int64_t size_;
};

// The last `count` whole lines (partial records joined), oldest first. A file that is not there has none.
absl::StatusOr<std::vector<Record>> ReadTail(const std::filesystem::path& path, size_t count);

// Follows a log through rotations. Not thread-safe.
class LogFollower {
 public:
  explicit LogFollower(std::filesystem::path path);  // starts after what ReadTail would have read now
  ~LogFollower();
  LogFollower(LogFollower&&) noexcept;
  // Whole lines that came since the last call; empty when none did. Does not block.
  absl::StatusOr<std::vector<Record>> ReadNew();

 private:
  struct Position;
  std::unique_ptr<Position> position_;
};

}  // namespace vibe::logs
