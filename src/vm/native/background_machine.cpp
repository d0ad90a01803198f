#include "vm/native/background_machine.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::vm::native {
namespace fs = std::filesystem;
namespace {

constexpr absl::Duration kLockPoll = absl::Milliseconds(2);
constexpr off_t kLogTailBytes = 16 << 10;
constexpr size_t kLogTailLines = 20;

}  // namespace

fs::path CanonicalDirectory(const fs::path& directory) {
  std::error_code error;
  fs::path canonical = fs::weakly_canonical(fs::absolute(directory, error), error);
  return error ? directory : canonical;
}

absl::Status StartError(absl::string_view text, absl::string_view program) {
  std::string message, advice;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::ConsumePrefix(&line, "advice: ")) {
      advice = std::string(line);
    } else if (absl::ConsumePrefix(&line, "error: ")) {
      message = std::string(line);
    }
  }
  if (message.empty()) {
    message = absl::StrCat(program, " failed: ", absl::StripAsciiWhitespace(text));
  }
  return WithAdvice(absl::FailedPreconditionError(message), advice);
}

absl::Status AwaitUnlocked(const fs::path& path, absl::Time deadline) {
  const UniqueFd lock(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!lock.valid()) {
    return absl::OkStatus();
  }
  while (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("a process still holds ", path.string()));
    }
    absl::SleepFor(kLockPoll);
  }
  return absl::OkStatus();
}

std::vector<std::string> LastLines(const fs::path& log) {
  const UniqueFd file(::open(log.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) {
    return {};
  }
  const off_t size = ::lseek(file.get(), 0, SEEK_END);
  std::string text(kLogTailBytes, '\0');
  const ssize_t count = ::pread(file.get(), text.data(), text.size(),
                                size > kLogTailBytes ? size - kLogTailBytes : 0);
  text.resize(count > 0 ? static_cast<size_t>(count) : 0);
  std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  if (lines.size() > kLogTailLines) {
    lines.erase(lines.begin(), lines.end() - kLogTailLines);
  }
  return lines;
}

}  // namespace vibe::vm::native
