#include "init/service.h"

#include <signal.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/unix_socket.h"
#include "init/child.h"
#include "init/programs.h"
#include "vm/native/layout.h"

namespace vibe::init {
namespace {

constexpr absl::Duration kUpPoll = absl::Milliseconds(5);
constexpr absl::Duration kForkPause = absl::Seconds(1);

}  // namespace

Service::Service(std::string name, std::vector<std::string> command, std::filesystem::path socket,
                 LogPipe log)
    : name_(std::move(name)),
      command_(std::move(command)),
      socket_(std::move(socket)),
      log_(std::move(log)) {}

void Service::StartIfDue(absl::Time now) {
  if (pid_ != 0 || now < next_start_) {
    return;
  }
  const absl::StatusOr<pid_t> pid =
      StartChild({.args = command_,
                  .env = {absl::StrCat("PATH=", kPath), "LANG=C.UTF-8", "HOME=/root",
                          absl::StrCat("TMPDIR=", vm::native::inside::kData, "/tmp")},
                  .output = log_.write_end()});
  started_ = now;
  if (!pid.ok()) {
    Say(absl::StrCat(name_, " cannot be started: ", pid.status().message()));
    next_start_ = now + kForkPause;
    return;
  }
  pid_ = *pid;
}

bool Service::CheckUp() {
  if (pid_ == 0 || up_ || !ConnectUnix(socket_).ok()) {
    return false;
  }
  up_ = true;
  return true;
}

void Service::Ended(int wait_status, absl::Time now, bool power_off) {
  pid_ = 0;
  up_ = false;
  if (power_off) {
    return;
  }
  const absl::Duration wait = backoff_.Next(now - started_);
  next_start_ = now + wait;
  Say(absl::StrCat(
      name_, " ", DescribeEnd(wait_status), " after ",
      absl::FormatDuration(absl::Trunc(now - started_, absl::Milliseconds(1))),
      "; it is started again ",
      wait == absl::ZeroDuration() ? "at once" : absl::StrCat("in ", absl::FormatDuration(wait))));
}

absl::Time Service::NextLook(absl::Time now) const {
  if (pid_ == 0) {
    return next_start_;
  }
  return up_ ? absl::InfiniteFuture() : now + kUpPoll;
}

void Service::Signal(int signal) const {
  if (pid_ != 0) {
    ::kill(pid_, signal);
  }
}

}  // namespace vibe::init
