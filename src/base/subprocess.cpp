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
  if (::pipe(fds) != 0) {
    return ErrnoError(errno, "pipe");
  }
  for (int fd : fds) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
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
  pid_t pid = 0;
  const int spawned =
      ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), envp.data());
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
    pollfd polls[3] = {{out.read.get(), POLLIN, 0}, {err.read.get(), POLLIN, 0},
                       {in.write.get(), POLLOUT, 0}};
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
      const ssize_t count = ::write(in.write.get(), input.data(), input.size());
      if (count > 0) {
        input.remove_prefix(static_cast<size_t>(count));
      }
      if (input.empty() || (count < 0 && errno != EINTR && errno != EAGAIN)) {
        in.write.reset();  // a program need not read its input
      }
    }
  }
  if (timed_out) {
    ::kill(pid, SIGKILL);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (timed_out) {
    return absl::DeadlineExceededError(absl::StrCat(
        options.args[0], " did not finish within ", absl::FormatDuration(options.timeout)));
  }
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace vibe
