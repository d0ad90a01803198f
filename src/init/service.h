// One program that the machine's first process keeps running. One thread.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "init/backoff.h"
#include "init/log_pipe.h"

namespace vibe::init {

class Service {
 public:
  // Counts as up when somebody accepts connections at `socket`.
  Service(std::string name, std::vector<std::string> command, std::filesystem::path socket,
          LogPipe log);

  const std::string& name() const { return name_; }
  LogPipe& log() { return log_; }
  pid_t pid() const { return pid_; }  // 0 while it does not run
  bool up() const { return up_; }

  // Starts it when its time has come.
  void StartIfDue(absl::Time now);
  // Looks whether it answers, until it does. True when it has just come up.
  bool CheckUp();
  // It ended, as it should when the machine powers off; else says so and plans the next start.
  void Ended(int wait_status, absl::Time now, bool power_off);
  // When StartIfDue or CheckUp has something to do; InfiniteFuture when nothing.
  absl::Time NextLook(absl::Time now) const;
  void Signal(int signal) const;

 private:
  std::string name_;
  std::vector<std::string> command_;
  std::filesystem::path socket_;
  LogPipe log_;
  Backoff backoff_;
  pid_t pid_ = 0;
  bool up_ = false;
  absl::Time started_;
  absl::Time next_start_ = absl::InfinitePast();
};

}  // namespace vibe::init
