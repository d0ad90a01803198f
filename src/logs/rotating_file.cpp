#include "logs/rotating_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

namespace vibe::logs {
namespace {

constexpr mode_t kMode = 0600;  // what a service prints is its user's business only

// How many times its size a file may grow when it cannot be renamed.
constexpr int64_t kPatience = 4;

// 0 or an errno; `written` says how far it came.
int WriteAll(int fd, std::string_view bytes, size_t& written) {
  written = 0;
  while (written < bytes.size()) {
    const ssize_t count = ::write(fd, bytes.data() + written, bytes.size() - written);
    if (count < 0 && errno != EINTR) {
      return errno;
    }
    written += count > 0 ? static_cast<size_t>(count) : 0;
  }
  return 0;
}

}  // namespace

RotatingFile::RotatingFile(std::string path, int64_t max_bytes, int max_rotated)
    : path_(std::move(path)), max_bytes_(max_bytes), max_rotated_(max_rotated) {}

int RotatingFile::Open() {
  UniqueFd fd(::open(path_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kMode));
  struct stat info {};
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0) {
    return errno;
  }
  if (!S_ISREG(info.st_mode)) {
    return EINVAL;
  }
  // A writer that was killed, or a machine that lost power, may have left half a line.
  char last = '\n';
  if (info.st_size > 0 && ::pread(fd.get(), &last, 1, info.st_size - 1) == 1 && last != '\n') {
    if (::write(fd.get(), "\n", 1) != 1) {
      return errno;
    }
    ++info.st_size;
  }
  fd_ = std::move(fd);
  size_ = info.st_size;
  return 0;
}

int RotatingFile::Append(std::string_view lines, size_t& written) {
  written = 0;
  if (!fd_.valid()) {
    return EBADF;
  }
  if (size_ > 0 && size_ + static_cast<int64_t>(lines.size()) > max_bytes_) {
    Rotate();
    if (size_ > kPatience * max_bytes_) {
      return EFBIG;
    }
  }
  size_t raw = 0;
  const int error = WriteAll(fd_.get(), lines, raw);
  written = error == 0 ? raw : lines.substr(0, raw).rfind('\n') + 1;  // npos + 1 is 0
  if (written < raw && ::ftruncate(fd_.get(), size_ + static_cast<int64_t>(written)) != 0) {
    size_ += static_cast<int64_t>(raw - written);  // the next line goes on the half one
  }
  size_ += static_cast<int64_t>(written);
  return error;
}

std::string RotatingFile::Rotated(int number) const {
  return path_ + "." + std::to_string(number);
}

// The new file is made before the old one gives up its name. When anything fails the old one is
// written on: a file that is too long is better than a line that is lost.
void RotatingFile::Rotate() {
  const std::string fresh = path_ + ".new";
  UniqueFd fd(
      ::open(fresh.c_str(), O_RDWR | O_APPEND | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kMode));
  if (!fd.valid()) {
    return;
  }
  for (int number = max_rotated_ - 1; number >= 1; --number) {
    ::rename(Rotated(number).c_str(), Rotated(number + 1).c_str());  // there may be none
  }
  if (::rename(path_.c_str(), Rotated(1).c_str()) != 0) {
    ::unlink(fresh.c_str());
    return;
  }
  if (::rename(fresh.c_str(), path_.c_str()) != 0) {
    ::rename(Rotated(1).c_str(), path_.c_str());
    return;
  }
  fd_ = std::move(fd);
  size_ = 0;
}

}  // namespace vibe::logs
