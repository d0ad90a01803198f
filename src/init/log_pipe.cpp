#include "init/log_pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"

namespace vibe::init {
namespace {

constexpr size_t kMaxLine = 16 << 10;

}  // namespace

absl::StatusOr<LogPipe> LogPipe::Make(const std::filesystem::path& path, int64_t max_bytes,
                                      Stamp stamp) {
  LogPipe pipe(std::make_unique<logs::RotatingFile>(path.string(), max_bytes, 1), stamp);
  if (const int error = pipe.file_->Open(); error != 0) {
    return ErrnoError(error, absl::StrCat("open the log ", path.string()));
  }
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) {
    return ErrnoError(errno, "make a pipe");
  }
  pipe.read_.reset(fds[0]);
  pipe.write_.reset(fds[1]);
  ::fcntl(fds[0], F_SETFL, O_NONBLOCK);
  return pipe;
}

void LogPipe::Write(absl::string_view line) {
  std::string record;
  if (stamp_ == Stamp::kTime) {
    // absl::Now would lag behind for two seconds when a resumed machine's clock is set.
    const absl::Time now = absl::FromChrono(std::chrono::system_clock::now());
    record = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ ", now, absl::UTCTimeZone());
  }
  absl::StrAppend(&record, line, "\n");
  if (file_->is_open() || file_->Open() == 0) {
    size_t written = 0;
    file_->Append(record, written);
  }
}

void LogPipe::Pump() {
  char buffer[32 << 10];
  // Bounded, so that a service that writes without end does not keep its init from anything else.
  for (int i = 0; i < 16; ++i) {
    const ssize_t count = ::read(read_.get(), buffer, sizeof buffer);
    if (count <= 0) {
      return;
    }
    partial_.append(buffer, static_cast<size_t>(count));
    absl::string_view rest = partial_;
    for (size_t end = rest.find('\n'); end != absl::string_view::npos || rest.size() > kMaxLine;
         end = rest.find('\n')) {
      const size_t length = std::min(end, kMaxLine);
      Write(rest.substr(0, length));
      rest.remove_prefix(length == end ? length + 1 : length);
    }
    partial_.erase(0, partial_.size() - rest.size());
  }
}

void Say(absl::string_view line) {
  const std::string text = absl::StrCat(line, "\n");
  // One write, so that lines of the machine's two halves do not mix.
  if (::write(STDERR_FILENO, text.data(), text.size()) < 0) {
    return;  // a console that takes no more loses the line
  }
}

}  // namespace vibe::init
