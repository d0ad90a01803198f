#include "init/background.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "init/log_pipe.h"

namespace vibe::init {
namespace {

constexpr absl::Duration kLockWait = absl::Seconds(3);
constexpr absl::Duration kPoll = absl::Milliseconds(5);

// What we were started with is not the machine's: session, directory, signals.
void Detach() {
  ::setsid();
  if (::chdir("/") != 0) {
    Say("cannot go to /");
  }
  for (int signal = 1; signal < NSIG; ++signal) {
    ::signal(signal, SIG_DFL);
  }
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGHUP, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace

absl::StatusOr<UniqueFd> LockMachine(const std::filesystem::path& path,
                                     const std::filesystem::path& directory) {
  UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock.valid()) {
    return ErrnoError(errno, absl::StrCat("open ", path.string()));
  }
  const absl::Time deadline = absl::Now() + kLockWait;
  while (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return ErrnoError(errno, absl::StrCat("lock ", path.string()));
    }
    if (absl::Now() >= deadline) {
      return WithAdvice(
          absl::AlreadyExistsError(absl::StrCat("a machine runs already in ", directory.string())),
          "stop it with `vibe machine stop`");
    }
    absl::SleepFor(kPoll);
  }
  return lock;
}

int Fail(const absl::Status& status) {
  Say(absl::StrCat("error: ", status.message()));
  if (const std::string advice = AdviceOf(status); !advice.empty()) {
    Say(absl::StrCat("advice: ", advice));
  }
  return 1;
}

void ReportStart(UniqueFd& report, const absl::Status& status) {
  if (!report.valid()) {
    return;
  }
  std::string text = "ok\n";
  if (!status.ok()) {
    text = absl::StrCat("error: ", status.message(), "\n");
    if (const std::string advice = AdviceOf(status); !advice.empty()) {
      absl::StrAppend(&text, "advice: ", advice, "\n");
    }
    Say(text.substr(0, text.find('\n')));
  }
  if (::write(report.get(), text.data(), text.size()) < 0) {
    Say("whoever started the machine does not listen");
  }
  report.reset();
}

int StartInBackground(const std::function<int(UniqueFd report)>& run, absl::string_view ended) {
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) {
    return Fail(ErrnoError(errno, "make a pipe"));
  }
  const pid_t pid = ::fork();
  if (pid < 0) {
    return Fail(ErrnoError(errno, "fork"));
  }
  if (pid == 0) {
    ::close(report[0]);
    Detach();
    ::_exit(run(UniqueFd(report[1])));
  }
  ::close(report[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t count = 0;
       (count = ::read(report[0], buffer, sizeof buffer)) > 0 || (count < 0 && errno == EINTR);) {
    text.append(buffer, count > 0 ? static_cast<size_t>(count) : 0);
  }
  if (text == "ok\n") {
    return 0;
  }
  if (text.empty()) {
    return Fail(absl::InternalError(ended));
  }
  return ::write(STDERR_FILENO, text.data(), text.size()) < 0 ? 2 : 1;
}

}  // namespace vibe::init
