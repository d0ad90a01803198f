#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "logs/log_file.h"
#include "logs/rotating_file.h"

namespace vibe::logs {

absl::StatusOr<LogWriter> LogWriter::Open(const std::filesystem::path& path) {
  auto file = std::make_unique<RotatingFile>(path.string(), kMaxFileBytes, kMaxRotated);
  if (const int error = file->Open(); error != 0) {
    return ErrnoError(error, absl::StrCat("open the log ", path.string()));
  }
  return LogWriter(std::move(file));
}

LogWriter::LogWriter(std::unique_ptr<RotatingFile> file) : file_(std::move(file)) {}
LogWriter::LogWriter(LogWriter&&) noexcept = default;
LogWriter& LogWriter::operator=(LogWriter&&) noexcept = default;
LogWriter::~LogWriter() = default;

absl::Status LogWriter::Append(const Record& record) {
  const timespec time = absl::ToTimespec(record.time);
  std::string_view text = record.text;
  std::string lines;
  for (; text.size() > kMaxLineBytes; text.remove_prefix(kMaxLineBytes)) {
    AppendRecordLine(time, record.stream, true, text.substr(0, kMaxLineBytes), lines);
  }
  AppendRecordLine(time, record.stream, record.partial, text, lines);
  size_t written = 0;
  const int error = file_->Append(lines, written);
  return error == 0 ? absl::OkStatus() : ErrnoError(error, "write to the log");
}

}  // namespace vibe::logs
