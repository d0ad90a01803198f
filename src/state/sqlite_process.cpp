// The supervisor's side of the SQLite worker: it starts one for one database and reads its answer.
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "base/utf8.h"
#include "state/sqlite_files.h"
#include "state/sqlite_worker.h"

namespace vibe::state {
namespace {

constexpr size_t kMaxAnswer = 64 << 10;
constexpr size_t kMaxText = 1000;         // of an answer that is kept
constexpr uint64_t kSlack = 64ULL << 20;  // that a database's files may grow by
constexpr absl::Duration kFirstLook = absl::Milliseconds(1);
constexpr int64_t kStopPollMs = 100;

class SpawnActions {
 public:
  SpawnActions() { ::posix_spawn_file_actions_init(&actions_); }
  ~SpawnActions() { ::posix_spawn_file_actions_destroy(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

// Reads to the end of the pipe; DeadlineExceeded when that does not come in time, Cancelled when
// asked to stop.
absl::StatusOr<std::string> ReadAnswer(int fd, absl::Time deadline, const std::stop_token& stop) {
  std::string answer;
  char buffer[4096];
  while (true) {
    pollfd waiting = {.fd = fd, .events = POLLIN, .revents = 0};
    const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now() + kFirstLook);
    if (left <= 0) {
      return absl::DeadlineExceededError("it took too long");
    }
    if (stop.stop_requested()) {
      return absl::CancelledError("stopped");
    }
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::min(left, kStopPollMs)));
    if (ready < 0 && errno != EINTR) {
      return ErrnoError(errno, "wait for the SQLite worker");
    }
    if (ready <= 0) {
      continue;
    }
    const ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return ErrnoError(errno, "read from the SQLite worker");
    }
    if (count == 0) {
      return answer;
    }
    answer.append(buffer, static_cast<size_t>(count));
    if (answer.size() > kMaxAnswer) {
      return absl::ResourceExhaustedError("it answered too much");
    }
  }
}

struct Answer {
  absl::StatusOr<std::string> text;
  int wait_status = 0;
};

absl::StatusOr<Answer> RunWorker(int volume, const char* mode, const SqliteFile& file,
                                 absl::Duration busy, const SqliteWorkerOptions& options) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return ErrnoError(errno, "start the SQLite worker");
  }
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  // Out of the way of the numbers that the worker gets them under.
  const UniqueFd folder(::fcntl(volume, F_DUPFD_CLOEXEC, kWorkerVolumeFd + 1));
  UniqueFd output(::fcntl(writer.get(), F_DUPFD_CLOEXEC, kWorkerVolumeFd + 1));
  if (!folder.valid() || !output.valid()) {
    return ErrnoError(errno, "start the SQLite worker");
  }
  writer.reset();
  SpawnActions actions;
  ::posix_spawn_file_actions_addopen(actions.get(), STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(actions.get(), output.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(actions.get(), STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_adddup2(actions.get(), folder.get(), kWorkerVolumeFd);

  std::vector<std::string> args = {options.program.string(),
                                   kWorkerArgument,
                                   mode,
                                   absl::StrCat(file.uid),
                                   absl::StrCat(file.gid),
                                   absl::StrCat(absl::ToInt64Milliseconds(busy)),
                                   absl::StrCat(options.max_memory),
                                   absl::StrCat(file.size + file.wal_size + kSlack),
                                   absl::StrCat(absl::ToInt64Seconds(options.timeout) + 1),
                                   absl::StrCat("/", file.path)};
  std::vector<char*> argv;
  for (std::string& arg : args) {
    argv.push_back(arg.data());
  }
  argv.push_back(nullptr);
  char* const environment[] = {nullptr};
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, options.program.c_str(), actions.get(), &attributes,
                                  argv.data(), environment);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    return ErrnoError(error, absl::StrCat("start the SQLite worker ", options.program.string()));
  }
  // Only the worker holds the writing end now: its end is the answer's.
  output.reset();
  Answer answer{ReadAnswer(reader.get(), absl::Now() + options.timeout, options.stop)};
  if (!answer.text.ok()) {
    ::kill(pid, SIGKILL);
  }
  while (::waitpid(pid, &answer.wait_status, 0) < 0) {
    if (errno != EINTR) {
      return ErrnoError(errno, "wait for the SQLite worker");
    }
  }
  if (absl::IsCancelled(answer.text.status())) {
    return answer.text.status();
  }
  if (WIFEXITED(answer.wait_status) && WEXITSTATUS(answer.wait_status) == kWorkerNotConfined) {
    return absl::InternalError(
        absl::StrCat("the SQLite worker could not be confined: ", answer.text.value_or("")));
  }
  return answer;
}

// The worker's one line, as text that can be stored.
std::string Line(absl::string_view answer) {
  std::string line = ValidUtf8(absl::StripSuffix(answer, "\n"));
  if (line.size() > kMaxText) {
    line = ValidUtf8(absl::string_view(line).substr(0, kMaxText)) + "…";
  }
  return line;
}

// An answer that says how it went, also when the worker died over a database.
std::string Verdict(const Answer& answer) {
  if (!answer.text.ok()) {
    return absl::StrCat("could not be read: ", answer.text.status().message());
  }
  if (WIFSIGNALED(answer.wait_status) || answer.text->empty()) {
    return "could not be read: it needs too much memory or time, or breaks SQLite";
  }
  return Line(*answer.text);
}

}  // namespace

absl::Status CheckpointSqliteFile(int volume, const SqliteFile& file, absl::Duration busy,
                                  const SqliteWorkerOptions& options) {
  if (file.wal_size == 0) {
    return absl::OkStatus();
  }
  VIBE_ASSIGN_OR_RETURN(const Answer answer,
                        RunWorker(volume, kCheckpointMode, file, busy, options));
  const std::string verdict = Verdict(answer);
  if (verdict == kAnswerOk) {
    return absl::OkStatus();
  }
  if (verdict == kAnswerBusy) {
    return absl::UnavailableError("others held its locks");
  }
  return absl::UnknownError(verdict);
}

absl::StatusOr<std::string> CheckSqliteFile(int volume, const SqliteFile& file,
                                            const SqliteWorkerOptions& options) {
  VIBE_ASSIGN_OR_RETURN(const Answer answer,
                        RunWorker(volume, kCheckMode, file, absl::Seconds(1), options));
  return Verdict(answer);
}

}  // namespace vibe::state
