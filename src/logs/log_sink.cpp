#include "logs/log_sink.h"

#include <algorithm>
#include <cstring>

#include "logs/record_line.h"

namespace vibe::logs {
namespace {

constexpr time_t kOpenPause = 1;  // second

std::string LossLine(int64_t lines, int error, const timespec& now) {
  std::string line;
  AppendRecordLine(now, Stream::kStderr, false,
                   "vibe-logger: " + std::to_string(lines) +
                       (lines == 1 ? " line was" : " lines were") +
                       " lost here: " + std::strerror(error),
                   line);
  return line;
}

}  // namespace

void LogSink::Open(const timespec& now) {
  error_ = file_.Open();
  next_try_ = now.tv_sec + kOpenPause;
}

int LogSink::TryAppend(std::string_view lines, const timespec& now, size_t& written) {
  written = 0;
  if (!file_.is_open()) {
    // A clock that was set back must not keep the file closed.
    if (now.tv_sec < next_try_ && next_try_ - now.tv_sec <= kOpenPause) {
      return error_;
    }
    Open(now);
  }
  return file_.is_open() ? file_.Append(lines, written) : error_;
}

void LogSink::Write(std::string_view lines, const timespec& now) {
  if (lines.empty()) {
    return;
  }
  size_t written = 0;
  if (lost_lines_ > 0) {
    const std::string loss = LossLine(lost_lines_, error_, now);
    TryAppend(loss, now, written);
    if (written == 0) {
      lost_lines_ += std::count(lines.begin(), lines.end(), '\n');
      return;
    }
    lost_lines_ = 0;
  }
  if (const int error = TryAppend(lines, now, written); error != 0) {
    error_ = error;
    lines.remove_prefix(written);
    lost_lines_ = std::count(lines.begin(), lines.end(), '\n');
  }
}

void LogSink::Note(std::string_view text, const timespec& now) {
  std::string line;
  AppendRecordLine(now, Stream::kStderr, false, text, line);
  Write(line, now);
}

void LogSink::Finish(const timespec& now) {
  if (lost_lines_ > 0) {
    size_t written = 0;
    TryAppend(LossLine(lost_lines_, error_, now), now, written);
  }
}

}  // namespace vibe::logs
