#include "vm/vz/console_log.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace vibe::vm::vz {
namespace {

constexpr size_t kMaxLine = 8 << 10;  // a longer one is cut into several
constexpr int kReadsAtEnd = 64;
constexpr off_t kTailBytes = 32 << 10;

// There is no pipe2 on macOS.
absl::Status MakePipe(UniqueFd& reader, UniqueFd& writer) {
  int fds[2];
  if (::pipe(fds) != 0) {
    return ErrnoError(errno, "make a pipe");
  }
  reader.reset(fds[0]);
  writer.reset(fds[1]);
  for (const int fd : fds) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  return absl::OkStatus();
}

std::string Tail(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const off_t size = file.valid() ? ::lseek(file.get(), 0, SEEK_END) : 0;
  if (size <= 0) {
    return "";
  }
  std::string text(static_cast<size_t>(std::min(size, kTailBytes)), '\0');
  const ssize_t count =
      ::pread(file.get(), text.data(), text.size(), std::max<off_t>(0, size - kTailBytes));
  text.resize(count > 0 ? static_cast<size_t>(count) : 0);
  return text;
}

}  // namespace

ConsoleLog::ConsoleLog(const std::filesystem::path& path, int64_t max_bytes)
    : file_(path.string(), max_bytes, 1) {}

absl::StatusOr<std::unique_ptr<ConsoleLog>> ConsoleLog::Open(const std::filesystem::path& path,
                                                             int64_t max_bytes) {
  std::unique_ptr<ConsoleLog> log(new ConsoleLog(path, max_bytes));
  {
    absl::MutexLock lock(&log->mutex_);
    if (const int error = log->file_.Open(); error != 0) {
      return ErrnoError(error, absl::StrCat("open the console's log ", path.string()));
    }
  }
  VIBE_RETURN_IF_ERROR(MakePipe(log->reader_, log->writer_));
  VIBE_RETURN_IF_ERROR(MakePipe(log->quit_reader_, log->quit_writer_));
  ::fcntl(log->reader_.get(), F_SETFL, O_NONBLOCK);
  log->thread_ = std::thread([owner = log.get()] { owner->Pump(); });
  return log;
}

ConsoleLog::~ConsoleLog() {
  quit_writer_.reset();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void ConsoleLog::Note(absl::string_view line) {
  Write(absl::StrCat("vibe: ", line));
}

void ConsoleLog::Write(absl::string_view line) {
  absl::MutexLock lock(&mutex_);
  // A full disk costs the line, not the machine: nobody may wait for a log.
  if (file_.is_open() || file_.Open() == 0) {
    size_t written = 0;
    file_.Append(absl::StrCat(line, "\n"), written);
  }
}

bool ConsoleLog::ReadSome() {
  char buffer[16 << 10];
  const ssize_t count = ::read(reader_.get(), buffer, sizeof buffer);
  if (count <= 0) {
    return count < 0 && (errno == EINTR || errno == EAGAIN);
  }
  for (const char c : absl::string_view(buffer, static_cast<size_t>(count))) {
    if (c != '\n' && c != '\r') {
      partial_.push_back(c);
    }
    if (c == '\n' || partial_.size() == kMaxLine) {
      Write(partial_);
      partial_.clear();
    }
  }
  return true;
}

void ConsoleLog::Pump() {
  pollfd polls[2] = {{reader_.get(), POLLIN, 0}, {quit_reader_.get(), POLLIN, 0}};
  // What came before we were asked to end is read, but a guest that never stops writing is not
  // waited for.
  for (int left = kReadsAtEnd; left > 0;) {
    if (::poll(polls, 2, -1) < 0) {
      continue;  // EINTR
    }
    const bool ending = polls[1].revents != 0;
    if ((polls[0].revents != 0 && !ReadSome()) || (polls[0].revents == 0 && ending)) {
      break;
    }
    left -= ending ? 1 : 0;
  }
  if (!partial_.empty()) {
    Write(partial_);
    partial_.clear();
  }
}

std::vector<std::string> LastConsoleLines(const std::filesystem::path& path, size_t max_lines) {
  const std::string text = absl::StrCat(Tail(path.string() + ".1"), Tail(path.string()));
  std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  if (lines.size() > max_lines) {
    lines.erase(lines.begin(), lines.end() - static_cast<ptrdiff_t>(max_lines));
  }
  return lines;
}

}  // namespace vibe::vm::vz
