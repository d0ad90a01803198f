#include "cli/session.h"

#include <poll.h>
#include <pwd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "cli/daemon.h"
#include "cli/error_text.h"
#include "cli/signals.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxAnswer = 4096;
constexpr int kMaxQuestions = 5;

// Called before any thread exists.
absl::StatusOr<fs::path> FindHome(const std::string& given) {
  if (!given.empty()) {
    std::error_code error;
    const fs::path path = fs::absolute(given, error);
    if (error) {
      return absl::InvalidArgumentError(absl::StrCat("cannot use ", given, " as Vibe's home"));
    }
    return path.lexically_normal();
  }
  const char* vibe_home = std::getenv("VIBE_HOME");  // NOLINT(concurrency-mt-unsafe)
  if (vibe_home != nullptr && vibe_home[0] != '\0') {
    return FindHome(vibe_home);
  }
  const char* user_home = std::getenv("HOME");  // NOLINT(concurrency-mt-unsafe)
  if (user_home != nullptr && user_home[0] == '/') {
    return fs::path(user_home) / ".vibe";
  }
  const passwd* entry = ::getpwuid(::getuid());  // NOLINT(concurrency-mt-unsafe)
  if (entry == nullptr || entry->pw_dir == nullptr || entry->pw_dir[0] != '/') {
    return WithAdvice(absl::InvalidArgumentError("this user has no home directory"),
                      "give one with --home DIR");
  }
  return fs::path(entry->pw_dir) / ".vibe";
}

// One line of stdin. The signals that would end the program wake the wait instead.
absl::StatusOr<std::string> ReadAnswer() {
  int pipe_fds[2];
  if (::pipe(pipe_fds) != 0) {
    return ErrnoError(errno, "cannot ask");
  }
  const UniqueFd wake(pipe_fds[0]);
  const UniqueFd waker(pipe_fds[1]);
  const SignalWatch watch({SIGINT, SIGTERM, SIGHUP},
                          [&](int) { (void)!::write(waker.get(), "!", 1); });
  std::string line;
  while (line.size() < kMaxAnswer) {
    pollfd waits[2] = {{wake.get(), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoError(errno, "cannot read the answer");
    }
    if (waits[0].revents != 0) {
      std::fputc('\n', stderr);
      return InterruptedError("interrupted");
    }
    char byte = 0;
    const ssize_t count = ::read(STDIN_FILENO, &byte, 1);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      std::fputc('\n', stderr);
      return absl::CancelledError("no answer was given");
    }
    if (byte == '\n') {
      return line;
    }
    line += byte;
  }
  return absl::InvalidArgumentError("the answer is too long");
}

LaunchOptions LaunchOf(const fs::path& home) {
  LaunchOptions launch;
  launch.home = home;
  launch.program = DaemonProgram();
  return launch;
}

}  // namespace

absl::StatusOr<Session> Session::Make(const GlobalOptions& options) {
  Session session;
  VIBE_ASSIGN_OR_RETURN(session.home_, FindHome(options.home));
  session.json_ = options.json;
  session.out_ = LookAtScreen(STDOUT_FILENO, options.no_color);
  session.err_ = LookAtScreen(STDERR_FILENO, options.no_color);
  session.can_ask_ = session.err_.terminal && ::isatty(STDIN_FILENO) == 1;
  return session;
}

void Session::Print(absl::string_view text, const Json& document) const {
  Write(json_ ? absl::StrCat(Dump(document), "\n") : text);
}

void Session::Write(absl::string_view text) const {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

void Session::Note(absl::string_view text) const {
  const std::string line = absl::StrCat(text, "\n");
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void Session::NoteDisk(const Json& answer) const {
  if (const std::string warning = StringAt(answer, "diskWarning"); !warning.empty()) {
    Note(absl::StrCat("warning: ", Escape(warning)));
  }
}

absl::StatusOr<bool> Session::Ask(absl::string_view question) const {
  for (int attempt = 0; attempt < kMaxQuestions; ++attempt) {
    const std::string prompt = absl::StrCat(question, " [y/N] ");
    std::fwrite(prompt.data(), 1, prompt.size(), stderr);
    std::fflush(stderr);
    VIBE_ASSIGN_OR_RETURN(const std::string line, ReadAnswer());
    const std::string answer = absl::AsciiStrToLower(absl::StripAsciiWhitespace(line));
    if (answer == "y" || answer == "yes") {
      return true;
    }
    if (answer.empty() || answer == "n" || answer == "no") {
      return false;
    }
    Note("Please answer y or n.");
  }
  return absl::CancelledError("no answer that is yes or no was given");
}

absl::StatusOr<bool> Session::AskForWord(absl::string_view question, absl::string_view word) const {
  const std::string prompt = absl::StrCat(question, " ");
  std::fwrite(prompt.data(), 1, prompt.size(), stderr);
  std::fflush(stderr);
  VIBE_ASSIGN_OR_RETURN(const std::string line, ReadAnswer());
  return absl::StripAsciiWhitespace(line) == word;
}

absl::StatusOr<Json> Session::Run(absl::string_view label, const ApiRequest& request) {
  const std::unique_ptr<ApiClient> client = NewClient();
  std::atomic<bool> interrupted = false;
  const SignalWatch watch({SIGINT, SIGTERM, SIGHUP}, [&](int) {
    interrupted = true;
    client->Cancel();
  });
  // A file or a pipe gets the progress too, but a script that reads JSON wants stderr for errors
  // only.
  const ProgressStyle style = err_.terminal ? ProgressStyle::kTerminal
                              : json_       ? ProgressStyle::kSilent
                                            : ProgressStyle::kPlain;
  std::optional<DaemonVersion> running;
  absl::StatusOr<Json> answer = [&]() -> absl::StatusOr<Json> {
    ProgressDisplay display(style, err_.color, std::string(label));
    LaunchOptions launch = LaunchOf(home_);
    launch.cancelled = [&] { return interrupted.load(); };
    launch.on_launch = [&] { display.SetLabel("starting vibed"); };
    VIBE_ASSIGN_OR_RETURN(const DaemonVersion daemon, EnsureDaemon(launch));
    running = daemon;
    display.SetLabel(std::string(label));
    return client->Call(request, [&](const ProgressEvent& event) { display.Update(event); });
  }();
  if (running) {
    Compare(*running);
  }
  if (interrupted && !answer.ok()) {
    return InterruptedError("interrupted");
  }
  return answer;
}

absl::Status Session::Ready(const std::function<bool()>& cancelled) {
  LaunchOptions launch = LaunchOf(home_);
  launch.cancelled = cancelled;
  const absl::StatusOr<DaemonVersion> daemon = EnsureDaemon(launch);
  if (!daemon.ok()) {
    return cancelled && cancelled() ? InterruptedError("interrupted") : daemon.status();
  }
  Compare(*daemon);
  return absl::OkStatus();
}

void Session::Compare(const DaemonVersion& daemon) {
  if (daemon.version == VIBE_VERSION || compared_) {
    return;
  }
  compared_ = true;
  Note(absl::StrCat("warning: vibed ", Escape(daemon.version), " runs, but this is vibe ",
                    VIBE_VERSION, "; end it with `kill ", daemon.pid,
                    "`, and the next command starts the right one"));
}

std::unique_ptr<ApiClient> Session::NewClient() const {
  return std::make_unique<ApiClient>(SocketPath(home_));
}

TableStyle Session::Table() const {
  TableStyle style;
  style.width = out_.terminal ? MeasureScreen(STDOUT_FILENO).width : 0;
  style.color = out_.color;
  style.now = absl::Now();
  return style;
}

absl::StatusOr<bool> FlushOutput() {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) {
    return true;
  }
  const int error = errno;
  // Once a write has failed its cause may be forgotten, but a pipe without a reader still says so.
  pollfd wait{STDOUT_FILENO, 0, 0};
  if (error == EPIPE || (::poll(&wait, 1, 0) == 1 && (wait.revents & (POLLERR | POLLHUP)) != 0)) {
    return false;
  }
  return ErrnoError(error == 0 ? EIO : error, "cannot write the output");
}

}  // namespace vibe::cli
