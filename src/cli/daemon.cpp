#include "cli/daemon.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <vector>

#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "cli/api_client.h"

extern char** environ;  // NOLINT: POSIX has it in no header on macOS

namespace vibe::cli {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kPoll = absl::Milliseconds(20);
constexpr size_t kLogLines = 10;
constexpr int64_t kLogBytes = 16 << 10;

fs::path LogPath(const fs::path& home) {
  return home / "logs" / "vibed.log";
}

int64_t FileSize(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(size);
}

// The last lines of what was appended to the log after `offset`.
std::vector<std::string> LogSince(const fs::path& path, int64_t offset) {
  const int64_t size = FileSize(path);
  if (size < offset) {
    offset = 0;  // it was rotated
  }
  std::ifstream file(path, std::ios::binary);
  file.seekg(std::max(offset, size - kLogBytes));
  std::string text(static_cast<size_t>(std::min(size - offset, kLogBytes)), '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(0, file.gcount())));
  std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  if (lines.size() > kLogLines) {
    lines.erase(lines.begin(), lines.end() - kLogLines);
  }
  return lines;
}

std::vector<std::string> EnvironmentWithHome(const fs::path& home) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!absl::StartsWith(*variable, "VIBE_HOME=")) {
      variables.emplace_back(*variable);
    }
  }
  variables.push_back(absl::StrCat("VIBE_HOME=", home.string()));
  return variables;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& string : strings) {
    pointers.push_back(string.data());
  }
  pointers.push_back(nullptr);
  return pointers;
}

// The child must not inherit the signals that this program blocks or ignores.
void SetSignals(posix_spawnattr_t* attributes) {
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(attributes, &none);
  sigset_t reset;
  sigemptyset(&reset);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGWINCH}) {
    sigaddset(&reset, number);
  }
  posix_spawnattr_setsigdefault(attributes, &reset);
  short flags = POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
#ifdef __APPLE__
  flags |= POSIX_SPAWN_CLOEXEC_DEFAULT;
#endif
  posix_spawnattr_setflags(attributes, flags);
}

// Nothing of the terminal or the shell that ran us may be kept alive by a daemon.
void SetFiles(posix_spawn_file_actions_t* files) {
  posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addchdir_np(files, "/");
#ifdef __linux__
  posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
#endif
}

absl::StatusOr<pid_t> Launch(const LaunchOptions& options) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  SetFiles(&files);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  SetSignals(&attributes);
  std::vector<std::string> args = {options.program.string()};
  std::vector<std::string> environment = EnvironmentWithHome(options.home);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, options.program.c_str(), &files, &attributes,
                                  Pointers(args).data(), Pointers(environment).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) {
    return WithAdvice(ErrnoError(error, absl::StrCat("cannot start ", options.program.string())),
                      "vibed belongs beside vibe: install Vibe again");
  }
  return pid;
}

std::string DescribeEnd(int wait_status) {
  return WIFSIGNALED(wait_status)
             ? absl::StrCat("vibed was ended by signal ", WTERMSIG(wait_status))
             : absl::StrCat("vibed ended with exit code ", WEXITSTATUS(wait_status));
}

absl::StatusOr<DaemonVersion> WaitForDaemon(const LaunchOptions& options, pid_t pid) {
  absl::Time deadline = absl::Now() + options.timeout;
  std::string failure =
      absl::StrCat("vibed did not answer within ", absl::FormatDuration(options.timeout));
  bool ended = false;
  while (true) {
    absl::StatusOr<DaemonVersion> daemon = FindDaemon(options.home);
    if (daemon.ok()) {
      return daemon;
    }
    int wait_status = 0;
    if (!ended && ::waitpid(pid, &wait_status, WNOHANG) == pid) {
      ended = true;
      failure = DescribeEnd(wait_status);
      // Another vibe may have started one at the same moment; ours then ends at once, and theirs
      // answers.
      deadline = std::min(deadline, absl::Now() + absl::Seconds(1));
    }
    if (options.cancelled && options.cancelled()) {
      return absl::CancelledError("interrupted while vibed was starting");
    }
    if (absl::Now() >= deadline) {
      return absl::UnavailableError(failure);
    }
    absl::SleepFor(kPoll);
  }
}

}  // namespace

fs::path SocketPath(const fs::path& home) {
  return home / "vibed.sock";
}

absl::StatusOr<DaemonVersion> FindDaemon(const fs::path& home) {
  ApiClient client(SocketPath(home));
  ApiRequest request;
  request.target = "/v1/version";
  request.idle = absl::Seconds(5);
  VIBE_ASSIGN_OR_RETURN(const Json answer, client.Call(request));
  return DaemonVersion{StringAt(answer, "version"), NumberAt(answer, "pid").value_or(0),
                       StringAt(answer, "home")};
}

absl::StatusOr<DaemonVersion> EnsureDaemon(const LaunchOptions& options) {
  if (absl::StatusOr<DaemonVersion> daemon = FindDaemon(options.home);
      daemon.ok() || !absl::IsUnavailable(daemon.status())) {
    return daemon;
  }
  if (options.on_launch) {
    options.on_launch();
  }
  VIBE_RETURN_IF_ERROR(MakeDirectories(options.home, 0700));
  const fs::path log = LogPath(options.home);
  const int64_t log_size = FileSize(log);
  VIBE_ASSIGN_OR_RETURN(const pid_t pid, Launch(options));
  absl::StatusOr<DaemonVersion> daemon = WaitForDaemon(options, pid);
  if (daemon.ok() || absl::IsCancelled(daemon.status())) {
    return daemon;
  }
  return WithLog(WithAdvice(Annotate(daemon.status(), "cannot start vibed"),
                            absl::StrCat("its log is ", log.string())),
                 LogSince(log, log_size));
}

fs::path DaemonProgram() {
#ifdef __APPLE__
  std::string name(4096, '\0');
  uint32_t size = static_cast<uint32_t>(name.size());
  if (_NSGetExecutablePath(name.data(), &size) != 0) {
    return "vibed";
  }
  const fs::path self = name.c_str();
#else
  const fs::path self = "/proc/self/exe";
#endif
  std::error_code error;
  const fs::path resolved = fs::canonical(self, error);
  return error ? fs::path("vibed") : resolved.parent_path() / "vibed";
}

}  // namespace vibe::cli
