#include "init/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace vibe::init {
namespace {

constexpr int kSpareDescriptor = 100;  // above every number that a child asks for

[[noreturn]] void RunChild(const ChildOptions& options, pid_t parent) {
  if (options.dies_with_parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) {
      ::_exit(127);
    }
  }
  ::setsid();
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
  if (options.output >= 0) {
    ::dup2(options.output, STDOUT_FILENO);
    ::dup2(options.output, STDERR_FILENO);
  }
  // First out of the way, so that no number is overwritten before it was copied.
  std::vector<int> copies;
  for (const auto& [ours, theirs] : options.descriptors) {
    copies.push_back(::fcntl(ours, F_DUPFD_CLOEXEC, kSpareDescriptor));
  }
  for (size_t i = 0; i < copies.size(); ++i) {
    ::dup2(copies[i], options.descriptors[i].second);
  }
  std::vector<char*> argv, envp;
  for (const std::string& arg : options.args) {
    argv.push_back(const_cast<char*>(arg.c_str()));
  }
  for (const std::string& variable : options.env) {
    envp.push_back(const_cast<char*>(variable.c_str()));
  }
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  ::execve(argv[0], argv.data(), envp.data());
  ::dprintf(STDERR_FILENO, "%s cannot be executed: %s\n", argv[0], std::strerror(errno));
  ::_exit(127);
}

}  // namespace

absl::StatusOr<pid_t> StartChild(const ChildOptions& options) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) {
    return ErrnoError(errno, "fork");
  }
  if (pid == 0) {
    RunChild(options, parent);
  }
  return pid;
}

absl::StatusOr<UniqueFd> SignalDescriptor() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  UniqueFd fd(::sigprocmask(SIG_SETMASK, &signals, nullptr) == 0
                  ? ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK)
                  : -1);
  if (!fd.valid()) {
    return ErrnoError(errno, "watch signals");
  }
  return fd;
}

int NextSignal(const UniqueFd& signals) {
  signalfd_siginfo info{};
  return ::read(signals.get(), &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo)
                                                                  : 0;
}

std::string DescribeEnd(int wait_status) {
  return WIFSIGNALED(wait_status) ? absl::StrCat("was killed by signal ", WTERMSIG(wait_status))
                                  : absl::StrCat("ended with status ", WEXITSTATUS(wait_status));
}

}  // namespace vibe::init
