#include "init/host_side.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "init/background.h"
#include "init/backoff.h"
#include "init/child.h"
#include "init/loop_device.h"
#include "init/machine_side.h"
#include "vm/native/run_record.h"

namespace vibe::init {
namespace native = vm::native;
namespace {

constexpr absl::Duration kSetUpLimit = absl::Seconds(20);
constexpr absl::Duration kPowerOffLimit = absl::Seconds(20);  // the machine's half needs 15 at most
constexpr absl::Duration kClearLimit = absl::Seconds(5);
constexpr int64_t kMaxUplinkLogBytes = 256 << 10;
constexpr char kLeaf[] = "init";  // version 2 wants no process in a cgroup with children
constexpr int kMachineNamespaces =
    CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

struct Pipe {
  UniqueFd read, write;
};

absl::StatusOr<Pipe> MakePipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) {
    return ErrnoError(errno, "make a pipe");
  }
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

class Host {
 public:
  Host(Plan plan, LogPipe console, LogPipe uplink_log, UniqueFd report)
      : plan_(std::move(plan)),
        console_(std::move(console)),
        uplink_log_(std::move(uplink_log)),
        report_(std::move(report)),
        cgroup_(plan_.hierarchies, native::CgroupName(plan_.layout.directory)) {}

  absl::Status Start();
  void Run();
  void Clear();
  void Report(const absl::Status& status) { ReportStart(report_, status); }

 private:
  absl::Status StartMachine();
  void StartUplinkIfDue(absl::Time now);
  void Reap(absl::Time now);
  bool ReadMachineReport();
  void HandleSignals(absl::Time now);

  Plan plan_;
  LogPipe console_, uplink_log_;
  UniqueFd report_;          // to whoever started us; invalid once it has been told
  UniqueFd machine_report_;  // from the machine's half; invalid once it has spoken
  std::string machine_report_text_;
  native::Cgroup cgroup_;
  UniqueFd lock_, signals_;
  pid_t machine_ = 0;
  absl::Time kill_at_ = absl::InfiniteFuture();  // a machine that does not end by itself

  pid_t uplink_ = 0;
  Pipe uplink_life_;  // slirp4netns ends when the write end is closed
  UniqueFd uplink_ready_;
  absl::Time uplink_started_;
  absl::Time uplink_next_ = absl::InfinitePast();
  Backoff uplink_backoff_;
};

absl::Status Host::StartMachine() {
  VIBE_ASSIGN_OR_RETURN(Pipe go, MakePipe());
  VIBE_ASSIGN_OR_RETURN(Pipe machine_report, MakePipe());
  // The root of the machine's cgroup namespace is where we are when it is made.
  VIBE_RETURN_IF_ERROR(cgroup_.Enter(::getpid()));
  machine_ = static_cast<pid_t>(::syscall(SYS_clone, kMachineNamespaces | SIGCHLD, 0, 0, 0, 0));
  if (machine_ < 0) {
    machine_ = 0;
    return WithAdvice(ErrnoError(errno, "make the machine's namespaces"),
                      "inside a container, run that container privileged");
  }
  if (machine_ == 0) {
    go.write.reset();
    machine_report.read.reset();
    report_.reset();
    lock_.reset();
    signals_.reset();
    ::_exit(RunMachine(plan_, std::move(go.read), std::move(machine_report.write)));
  }
  machine_report_ = std::move(machine_report.read);
  ::fcntl(machine_report_.get(), F_SETFL, O_NONBLOCK);
  VIBE_RETURN_IF_ERROR(cgroup_.Enter(::getpid(), kLeaf));
  VIBE_RETURN_IF_ERROR(cgroup_.Enter(machine_, kLeaf));
  if (const std::vector<std::string> missing = cgroup_.EnableControllers(); !missing.empty()) {
    Say(
        absl::StrCat("no limits for services by these cgroup controllers, which the host does not "
                     "pass on: ",
                     absl::StrJoin(missing, ", ")));
  }
  if (::write(go.write.get(), "g", 1) != 1) {
    return ErrnoError(errno, "wake the machine");
  }
  return absl::OkStatus();
}

absl::Status Host::Start() {
  VIBE_ASSIGN_OR_RETURN(lock_, LockMachine(plan_.layout.lock(), plan_.layout.directory));
  VIBE_ASSIGN_OR_RETURN(signals_, SignalDescriptor());
  // What a machine left that was killed together with its host's half.
  const absl::Time deadline = absl::Now() + kClearLimit;
  VIBE_RETURN_IF_ERROR(Annotate(cgroup_.Kill(deadline), "clear away the machine before"));
  VIBE_RETURN_IF_ERROR(Annotate(cgroup_.Remove(deadline), "clear away the machine before"));
  VIBE_RETURN_IF_ERROR(RemoveAll(plan_.layout.run()));
  VIBE_RETURN_IF_ERROR(MakeDirectories(plan_.layout.run(), 0700));
  VIBE_ASSIGN_OR_RETURN(const native::RunRecord self, native::RecordOf(::getpid()));
  VIBE_RETURN_IF_ERROR(ReplaceFile(plan_.layout.record(), native::FormatRecord(self), 0600));
  return StartMachine();
}

void Host::StartUplinkIfDue(absl::Time now) {
  if (!plan_.uplink || uplink_ != 0 || now < uplink_next_ || kill_at_ < absl::InfiniteFuture()) {
    return;
  }
  uplink_started_ = now;
  uplink_next_ = now + absl::Seconds(1);  // unless it runs
  absl::StatusOr<Pipe> life = MakePipe();
  absl::StatusOr<Pipe> ready = MakePipe();
  if (!life.ok() || !ready.ok()) {
    Say("no uplink: out of file descriptors");
    return;
  }
  // Not --disable-host-loopback: the supervisor pulls from registries on the host's loopback. The
  // machine's firewall keeps services from the gateway.
  const absl::StatusOr<pid_t> pid =
      StartChild({.args = {plan_.programs.slirp4netns.string(), "--configure", "--mtu=65520",
                           "--enable-sandbox", "--enable-seccomp", "--exit-fd=3", "--ready-fd=4",
                           absl::StrCat(machine_), native::kUplink},
                  .env = {absl::StrCat("PATH=", kPath)},
                  .output = uplink_log_.write_end(),
                  .descriptors = {{life->read.get(), 3}, {ready->write.get(), 4}},
                  .dies_with_parent = true});
  if (!pid.ok()) {
    Say(absl::StrCat("no uplink: ", pid.status().message()));
    return;
  }
  uplink_ = *pid;
  uplink_life_ = *std::move(life);
  uplink_life_.read.reset();
  uplink_ready_ = std::move(ready->read);
}

void Host::Reap(absl::Time now) {
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    if (pid == machine_) {
      machine_ = 0;
      Say(absl::StrCat("the machine ", DescribeEnd(status)));
      while (machine_report_.valid() && ReadMachineReport()) {
        // Why it ended came just before.
      }
    } else if (pid == uplink_) {
      uplink_ = 0;
      uplink_ready_.reset();
      const absl::Duration wait = uplink_backoff_.Next(now - uplink_started_);
      uplink_next_ = now + wait;
      if (machine_ != 0 && kill_at_ == absl::InfiniteFuture()) {
        Say(absl::StrCat("slirp4netns ", DescribeEnd(status), "; it is started again in ",
                         absl::FormatDuration(wait)));
      }
    }
  }
}

// Whether there was something to read.
bool Host::ReadMachineReport() {
  char buffer[4096];
  const ssize_t count = ::read(machine_report_.get(), buffer, sizeof buffer);
  if (count > 0) {
    machine_report_text_.append(buffer, static_cast<size_t>(count));
    return true;
  }
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
    return false;
  }
  machine_report_.reset();
  if (machine_report_text_ == "ok\n") {
    Report(absl::OkStatus());
    return false;
  }
  std::string fault = "the machine ended while it was set up", advice;
  for (absl::string_view line : absl::StrSplit(machine_report_text_, '\n')) {
    if (absl::ConsumePrefix(&line, "error: ")) {
      fault = std::string(line);
    } else if (absl::ConsumePrefix(&line, "advice: ")) {
      advice = std::string(line);
    }
  }
  Report(WithAdvice(absl::FailedPreconditionError(fault), advice));
  return false;
}

void Host::HandleSignals(absl::Time now) {
  for (int signal = NextSignal(signals_); signal != 0; signal = NextSignal(signals_)) {
    if ((signal == SIGTERM || signal == SIGINT) && machine_ != 0) {
      ::kill(machine_, SIGTERM);
      kill_at_ = std::min(kill_at_, now + kPowerOffLimit);
    }
  }
}

void Host::Run() {
  const absl::Time set_up_by = absl::Now() + kSetUpLimit;
  while (machine_ != 0) {
    absl::Time now = absl::Now();
    StartUplinkIfDue(now);
    pollfd polls[] = {{signals_.get(), POLLIN, 0},
                      {console_.read_end(), POLLIN, 0},
                      {uplink_log_.read_end(), POLLIN, 0},
                      {machine_report_.get(), POLLIN, 0},
                      {uplink_ready_.get(), POLLIN, 0}};
    absl::Time next = kill_at_;
    if (plan_.uplink && uplink_ == 0 && kill_at_ == absl::InfiniteFuture()) {
      next = std::min(next, uplink_next_);
    }
    if (machine_report_.valid()) {
      next = std::min(next, set_up_by);
    }
    const int timeout =
        next == absl::InfiniteFuture()
            ? -1
            : static_cast<int>(std::clamp<int64_t>(
                  absl::ToInt64Milliseconds(absl::Ceil(next - now, absl::Milliseconds(1))), 0,
                  60000));
    ::poll(polls, std::size(polls), timeout);
    now = absl::Now();
    HandleSignals(now);
    if (machine_report_.valid()) {
      ReadMachineReport();
    }
    if (uplink_ready_.valid() && polls[4].revents != 0) {
      char byte = 0;
      if (::read(uplink_ready_.get(), &byte, 1) == 1) {
        Say(absl::StrCat("uplink up: ", MillisecondsSince(plan_.started), " ms after the start"));
      }
      uplink_ready_.reset();
    }
    if (now >= kill_at_ || (machine_report_.valid() && now >= set_up_by)) {
      Say("the machine does not end; it is killed");
      ::kill(machine_, SIGKILL);
      kill_at_ = now + absl::Seconds(1);
    }
    Reap(now);
    console_.Pump();
    uplink_log_.Pump();
  }
}

void Host::Clear() {
  Report(absl::InternalError("the machine ended while it was set up"));
  if (machine_ != 0) {
    ::kill(machine_, SIGKILL);
    ::waitpid(machine_, nullptr, 0);
  }
  uplink_life_.write.reset();
  if (uplink_ != 0) {
    ::kill(uplink_, SIGKILL);
    ::waitpid(uplink_, nullptr, 0);
  }
  if (lock_.valid()) {  // without it all this is another machine's
    if (cgroup_.Leave(::getpid()).ok()) {
      const absl::Time deadline = absl::Now() + kClearLimit;
      absl::Status status = cgroup_.Kill(deadline);
      status.Update(cgroup_.Remove(deadline));
      if (!status.ok()) {
        Say(status.message());
      }
    }
    if (const absl::Status status = AwaitDetached(plan_.layout.disk(), absl::Now() + kClearLimit);
        !status.ok()) {
      Say(status.message());
    }
    RemoveAll(plan_.layout.run()).IgnoreError();
    ::unlink(plan_.layout.record().c_str());
    // Free only when this process is gone: whoever takes the lock then knows that nothing is left.
    (void)lock_.release();
  }
  console_.Pump();
  uplink_log_.Pump();
}

}  // namespace

int RunHost(Plan plan, LogPipe console, UniqueFd report) {
  absl::StatusOr<LogPipe> uplink_log =
      LogPipe::Make(plan.layout.logs() / "uplink.log", kMaxUplinkLogBytes, LogPipe::Stamp::kTime);
  if (!uplink_log.ok()) {
    const std::string text = absl::StrCat("error: ", uplink_log.status().message(), "\n");
    return ::write(report.get(), text.data(), text.size()) < 0 ? 2 : 1;
  }
  Host host(std::move(plan), std::move(console), *std::move(uplink_log), std::move(report));
  const absl::Status status = host.Start();
  if (status.ok()) {
    host.Run();
  } else {
    host.Report(status);
  }
  host.Clear();
  return status.ok() ? 0 : 1;
}

}  // namespace vibe::init
