// Where vibe-logger's records go: a rotating file that may be out of reach for a while, as on a
// full disk. Lines are then lost, and the log says how many as soon as it can. Standard library
// only, see record_line.h. Not thread-safe.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>

#include "logs/rotating_file.h"

namespace vibe::logs {

class LogSink {
 public:
  explicit LogSink(RotatingFile file) : file_(std::move(file)) {}

  void Open(const timespec& now);
  // `lines` are whole lines of records. Never waits and never fails.
  void Write(std::string_view lines, const timespec& now);
  // A record of our own.
  void Note(std::string_view text, const timespec& now);
  // The last chance to say what was lost.
  void Finish(const timespec& now);

 private:
  int TryAppend(std::string_view lines, const timespec& now, size_t& written);

  RotatingFile file_;
  time_t next_try_ = 0;  // of opening the file
  int error_ = 0;        // why lines were lost
  int64_t lost_lines_ = 0;
};

}  // namespace vibe::logs
