// One line of a log file, as bytes. This part of the folder uses the standard library only:
// vibe-logger is started once per container, on the path of every start, and stays small and quick
// without more.
//
// All functions are pure and thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

namespace vibe::logs {

inline constexpr size_t kMaxLineBytes = 16 << 10;
inline constexpr int64_t kMaxFileBytes = 10 << 20;
inline constexpr int kMaxRotated = 3;

enum class Stream { kStdout, kStderr };

// Every line starts with as many bytes: "2026-01-02T03:04:05.123456789Z stdout F ".
inline constexpr size_t kLineHeaderBytes = 40;
inline constexpr size_t kMaxRecordBytes = kLineHeaderBytes + kMaxLineBytes + 1;

struct LineHeader {
  Stream stream = Stream::kStdout;
  bool partial = false;
};
// What comes before the text; nothing when `line` does not start as a record does. The time stamp
// is only looked at for its shape.
std::optional<LineHeader> ParseLineHeader(std::string_view line);

// Appends the line of a record, with its newline. A newline within `text` becomes a space, so that
// no text can pass for a record of its own.
void AppendRecordLine(const timespec& time, Stream stream, bool partial, std::string_view text,
                      std::string& out);

}  // namespace vibe::logs
