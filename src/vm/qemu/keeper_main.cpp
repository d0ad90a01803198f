// vibe-qemu-keeper: starts a virtual machine in the background and stays with it. vibed calls it.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "vm/qemu/keeper.h"
#include "vm/qemu/layout.h"

namespace vibe::vm::qemu {
namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  if (const std::string advice = AdviceOf(status); !advice.empty()) {
    std::fprintf(stderr, "advice: %s\n", advice.c_str());
  }
  return 1;
}

// What we were started with is not the machine's: signals, session, directory.
void Detach() {
  ::setsid();
  if (::chdir("/") != 0) {
    std::perror("/");
  }
  ::umask(077);
  for (int signal = 1; signal < NSIG; ++signal) {
    ::signal(signal, SIG_DFL);
  }
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGHUP, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// One list of arguments for two programs: the device's, "--", qemu's.
void Split(std::vector<std::string> commands, KeeperOptions& options) {
  std::vector<std::string>* command = &options.device;
  for (std::string& word : commands) {
    if (command == &options.device && word == "--") {
      command = &options.qemu;
    } else {
      command->push_back(std::move(word));
    }
  }
}

int Start(const KeeperOptions& options) {
  ::close_range(3, ~0U, 0);
  if (options.qemu.empty()) {
    return Fail(absl::InvalidArgumentError("there is no qemu to run"));
  }
  for (const std::filesystem::path& directory :
       {Layout{options.machine}.logs(), Layout{options.machine}.run()}) {
    if (absl::Status status = MakeDirectories(directory, 0700); !status.ok()) {
      return Fail(status);
    }
  }
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
    ::_exit(Keep(options, UniqueFd(report[1])));
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
    return Fail(absl::InternalError("the machine's keeper ended while it started"));
  }
  return ::write(STDERR_FILENO, text.data(), text.size()) < 0 ? 2 : 1;
}

}  // namespace
}  // namespace vibe::vm::qemu

int main(int argc, char** argv) {
  vibe::vm::qemu::KeeperOptions options;
  // Everything after the first "--" belongs to the programs.
  int own = 1;
  while (own < argc && std::string(argv[own]) != "--") {
    ++own;
  }
  vibe::vm::qemu::Split({argv + std::min(own + 1, argc), argv + argc}, options);
  CLI::App app(
      "Starts Vibe's virtual machine in the background and stays with it; vibed calls it.\n"
      "After the options: -- [the vsock device's command line] -- qemu's command line",
      "vibe-qemu-keeper");
  app.add_option("--machine", options.machine, "The machine's directory")->required();
  CLI11_PARSE(app, own, argv);
  return vibe::vm::qemu::Start(options);
}
