// A real vibe-logger, started as containerd's shim starts it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace vibe::logs {

class LoggerProcess {
 public:
  explicit LoggerProcess(std::vector<std::string> args) {
    UniqueFd out_read, err_read, ready_write;
    MakePipe(out_read, out);
    MakePipe(err_read, err);
    MakePipe(ready, ready_write);
    args.insert(args.begin(), VIBE_TEST_BIN_DIR "/vibe-logger");
    std::vector<char*> argv;
    for (std::string& arg : args) {
      argv.push_back(arg.data());
    }
    argv.push_back(nullptr);
    std::string id = "CONTAINER_ID=web", ns = "CONTAINER_NAMESPACE=test";
    char* environment[] = {id.data(), ns.data(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    // The pipes are well above these numbers, so that none is overwritten before it is copied.
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out_read.get(), 3);
    posix_spawn_file_actions_adddup2(&actions, err_read.get(), 4);
    posix_spawn_file_actions_adddup2(&actions, ready_write.get(), 5);
    const int error = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environment);
    posix_spawn_file_actions_destroy(&actions);
    EXPECT_EQ(error, 0) << "run " << argv[0];
  }
  LoggerProcess(const LoggerProcess&) = delete;
  LoggerProcess& operator=(const LoggerProcess&) = delete;
  ~LoggerProcess() {
    if (pid > 0) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }

  // As the shim does, which starts the container only then.
  void AwaitReady() {
    char byte = 0;
    EXPECT_EQ(::read(ready.get(), &byte, 1), 0) << "it must close the descriptor and write nothing";
  }

  // The exit code when it ends in time; -1 otherwise.
  int Wait(std::chrono::milliseconds limit = std::chrono::seconds(10)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    int status = 0;
    while (::waitpid(pid, &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > deadline) {
        return -1;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    pid = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  UniqueFd out, err;  // what the container would write to
  UniqueFd ready;
  pid_t pid = -1;

 private:
  static void MakePipe(UniqueFd& read, UniqueFd& write) {
    int fds[2];
    ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
    read.reset(::fcntl(fds[0], F_DUPFD_CLOEXEC, 20));
    write.reset(::fcntl(fds[1], F_DUPFD_CLOEXEC, 20));
    ::close(fds[0]);
    ::close(fds[1]);
  }
};

inline void WriteAll(const UniqueFd& fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd.get(), bytes.data(), bytes.size());
    ASSERT_GT(count, 0) << "the service would get an error when it prints";
    bytes.remove_prefix(static_cast<size_t>(count));
  }
}

}  // namespace vibe::logs
