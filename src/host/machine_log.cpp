#include "host/machine_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::host {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kLook = absl::Milliseconds(200);
// Longer ones are cut: whoever writes the log cuts at 16 KiB too.
constexpr size_t kMaxLine = 64 << 10;
constexpr size_t kChunk = 64 << 10;
constexpr size_t kMaxKept = 32 << 20;  // of the lines to begin with; the files are far smaller

using LineSink = std::function<absl::Status(std::string)>;

// One file, read from where the last read ended; the lines that were whole go to the sink.
class LogFile {
 public:
  // NotFound when there is none.
  static absl::StatusOr<LogFile> Open(const fs::path& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat info {};
    if (!fd.valid() || ::fstat(fd.get(), &info) != 0) {
      return errno == ENOENT || errno == ENOTDIR ? absl::NotFoundError("there is no log yet")
                                                 : ErrnoError(errno, path.string());
    }
    if (!S_ISREG(info.st_mode)) {
      return absl::FailedPreconditionError(absl::StrCat(path.string(), " is not a file"));
    }
    return LogFile(std::move(fd), info);
  }

  bool IsAt(const fs::path& path) const {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 && info.st_ino == inode_ && info.st_dev == device_;
  }

  absl::Status ReadOn(const LineSink& sink) {
    std::vector<char> buffer(kChunk);
    while (true) {
      const ssize_t count = ::read(fd_.get(), buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) {
        continue;
      }
      if (count < 0) {
        return ErrnoError(errno, "read the machine's log");
      }
      if (count == 0) {
        return absl::OkStatus();
      }
      for (const char byte : absl::string_view(buffer.data(), static_cast<size_t>(count))) {
        if (byte == '\n') {
          VIBE_RETURN_IF_ERROR(sink(std::exchange(partial_, {})));
        } else if (partial_.size() < kMaxLine) {
          partial_ += byte;
        }
      }
    }
  }

  // The last line of a file that nobody adds to may have no end.
  absl::Status Finish(const LineSink& sink) {
    return partial_.empty() ? absl::OkStatus() : sink(std::exchange(partial_, {}));
  }

 private:
  LogFile(UniqueFd fd, const struct stat& info)
      : fd_(std::move(fd)), inode_(info.st_ino), device_(info.st_dev) {}

  UniqueFd fd_;
  ino_t inode_;
  dev_t device_;
  std::string partial_;
};

absl::Status Follow(const fs::path& path, absl::StatusOr<LogFile> file, const LineSink& sink,
                    Cancellation& cancel) {
  while (true) {
    if (file.ok()) {
      // Looked at before it is read: what was written until it was rotated away is read first.
      const bool current = file->IsAt(path);
      VIBE_RETURN_IF_ERROR(file->ReadOn(sink));
      if (!current) {
        VIBE_RETURN_IF_ERROR(file->Finish(sink));
        file = LogFile::Open(path);
        if (file.ok()) {
          continue;
        }
      }
    } else {
      file = LogFile::Open(path);
    }
    if (!file.ok() && !absl::IsNotFound(file.status())) {
      return file.status();
    }
    if (!cancel.SleepFor(kLook)) {
      return cancel.Check();
    }
  }
}

}  // namespace

nlohmann::json MachineLogLineJson(absl::string_view line) {
  line = absl::StripSuffix(line, "\r");  // a kernel's console ends its lines so
  const size_t space = line.find(' ');
  const absl::string_view first = line.substr(0, space);
  absl::Time time;
  if (absl::ParseTime(absl::RFC3339_full, first, &time, nullptr)) {
    line.remove_prefix(space == absl::string_view::npos ? line.size() : space + 1);
    return {{"time", std::string(first)}, {"text", std::string(line)}};
  }
  return {{"time", ""}, {"text", std::string(line)}};
}

absl::Status ReadMachineLog(const fs::path& path, const MachineLogOptions& options,
                            const std::function<absl::Status(const nlohmann::json&)>& sink,
                            Cancellation& cancel) {
  std::deque<std::string> last;
  size_t kept = 0;
  const LineSink keep = [&](std::string line) {
    kept += line.size();
    last.push_back(std::move(line));
    while (last.size() > options.tail || kept > kMaxKept) {
      kept -= last.front().size();
      last.pop_front();
    }
    return cancel.Check();
  };
  // The current one is opened first: what is rotated away meanwhile is read from it all the same,
  // and no line twice.
  absl::StatusOr<LogFile> file = LogFile::Open(path);
  if (absl::StatusOr<LogFile> older = LogFile::Open(path.string() + ".1");
      older.ok() && !(file.ok() && file->IsAt(path.string() + ".1"))) {
    VIBE_RETURN_IF_ERROR(older->ReadOn(keep));
    VIBE_RETURN_IF_ERROR(older->Finish(keep));
  }
  if (file.ok()) {
    VIBE_RETURN_IF_ERROR(file->ReadOn(keep));
    if (!options.follow) {
      VIBE_RETURN_IF_ERROR(file->Finish(keep));
    }
  } else if (!absl::IsNotFound(file.status())) {
    return file.status();
  }
  const LineSink give = [&](const std::string& line) { return sink(MachineLogLineJson(line)); };
  for (std::string& line : last) {
    VIBE_RETURN_IF_ERROR(give(std::move(line)));
  }
  last.clear();
  return options.follow ? Follow(path, std::move(file), give, cancel) : absl::OkStatus();
}

}  // namespace vibe::host
