#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"

extern char** environ;

namespace vibe {
namespace {

struct Pipe {
  UniqueFd read, write;
};

absl::StatusOr<Pipe> MakePipe() {
  int fds[2];
#ifdef __linux__
  // At once: a program that another thread starts must not hold our pipe open.
  if (::pipe2(fds, O_CLOEXEC) != 0) {
    return ErrnoError(errno, "pipe");
  }
#else
  if (::pipe(fds) != 0) {
    return ErrnoError(errno, "pipe");
  }
  for (int fd : fds) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
#endif
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// Reads what is there; closes the descriptor at its end.
void Drain(UniqueFd& fd, std::string& output, size_t limit) {
  char buffer[16 << 10];
  const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
  if (count > 0) {
    output.append(buffer, std::min(static_cast<size_t>(count), limit - output.size()));
  } else if (count == 0 || (errno != EINTR && errno != EAGAIN)) {
    fd.reset();
  }
}

// Writes without the SIGPIPE that would end us when the reader is gone, whatever our program does
// about it.
ssize_t WriteToPipe(int fd, absl::string_view bytes) {
  sigset_t pipe_signal, before, pending;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
  const ssize_t count = ::write(fd, bytes.data(), bytes.size());
  const int error = errno;
  if (count < 0 && error == EPIPE && ::sigpending(&pending) == 0 &&
      sigismember(&pending, SIGPIPE) == 1) {
    int ignored = 0;
    ::sigwait(&pipe_signal, &ignored);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return count;
}

// False when it did not end in time. It may have closed its output long before it ends.
bool WaitUntil(pid_t pid, absl::Time deadline, int& status) {
  absl::Duration pause = absl::Microseconds(50);
  while (true) {
    const pid_t ended = ::waitpid(pid, &status, WNOHANG);
    if (ended == pid || (ended < 0 && errno != EINTR)) {
      return true;
    }
    if (absl::Now() >= deadline) {
      return false;
    }
    absl::SleepFor(pause);
    pause = std::min(2 * pause, absl::Milliseconds(10));
  }
}

}  // namespace

absl::StatusOr<SubprocessResult> RunSubprocess(const SubprocessOptions& options) {
  VIBE_ASSIGN_OR_RETURN(Pipe in, MakePipe());
  VIBE_ASSIGN_OR_RETURN(Pipe out, MakePipe());
  VIBE_ASSIGN_OR_RETURN(Pipe err, MakePipe());

  std::vector<char*> argv;
  for (const std::string& arg : options.args) {
    argv.push_back(const_cast<char*>(arg.c_str()));
  }
  argv.push_back(nullptr);
  std::vector<std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const absl::string_view variable(*entry);
    const absl::string_view name = variable.substr(0, variable.find('='));
    if (std::none_of(options.env.begin(), options.env.end(),
                     [&](const auto& added) { return added.first == name; })) {
      variables.emplace_back(variable);
    }
  }
  for (const auto& [name, value] : options.env) {
    variables.push_back(absl::StrCat(name, "=", value));
  }
  std::vector<char*> envp;
  for (std::string& variable : variables) {
    envp.push_back(variable.data());
  }
  envp.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.read.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, out.write.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, err.write.get(), 2);
  // What our program blocks or ignores is its own affair.
  sigset_t none, pipe_signal;
  sigemptyset(&none);
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &pipe_signal);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  const int spawned =
      ::posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), envp.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (spawned != 0) {
    return ErrnoError(spawned, absl::StrCat("run ", options.args[0]));
  }
  in.read.reset();
  out.write.reset();
  err.write.reset();
  ::fcntl(in.write.get(), F_SETFL, O_NONBLOCK);

  SubprocessResult result;
  absl::string_view input = options.input;
  const absl::Time deadline = absl::Now() + options.timeout;
  bool timed_out = false;
  if (input.empty()) {
    in.write.reset();
  }
  while (out.read.valid() || err.read.valid()) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      timed_out = true;
      break;
    }
    pollfd polls[3] = {
        {out.read.get(), POLLIN, 0}, {err.read.get(), POLLIN, 0}, {in.write.get(), POLLOUT, 0}};
    if (::poll(polls, 3, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1) < 0) {
      continue;  // EINTR: look at the clock again
    }
    if (polls[0].revents != 0) {
      Drain(out.read, result.out, options.max_output);
    }
    if (polls[1].revents != 0) {
      Drain(err.read, result.err, options.max_output);
    }
    if (polls[2].revents != 0) {
      const ssize_t count = WriteToPipe(in.write.get(), input);
      if (count > 0) {
        input.remove_prefix(static_cast<size_t>(count));
      }
      if (input.empty() || (count < 0 && errno != EINTR && errno != EAGAIN)) {
        in.write.reset();  // a program need not read its input
      }
    }
  }
  int status = 0;
  if (timed_out || !WaitUntil(pid, deadline, status)) {
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return absl::DeadlineExceededError(absl::StrCat(options.args[0], " did not finish within ",
                                                    absl::FormatDuration(options.timeout)));
  }
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace vibe
