#include "vm/qemu/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "init/background.h"
#include "init/child.h"
#include "init/log_pipe.h"
#include "vm/native/run_record.h"
#include "vm/qemu/command_line.h"
#include "vm/qemu/layout.h"

namespace vibe::vm::qemu {
namespace {

using init::DescribeEnd;
using init::LogPipe;
using init::Say;

constexpr int64_t kMaxConsoleBytes = 4 << 20;
constexpr absl::Duration kDeviceStart = absl::Seconds(5);
constexpr absl::Duration kPoll = absl::Milliseconds(1);
constexpr int kLockDescriptor = 3;
constexpr uint64_t kMaxSocketsBytes = 16 << 20;
// qemu ends at once on SIGTERM, unless it is stopped.
constexpr absl::Duration kQemuEnd = absl::Seconds(5);

std::vector<std::string> Environment() {
  std::vector<std::string> environment;
  for (const char* name : {"PATH", "HOME", "TMPDIR", "LANG"}) {
    if (const char* value = std::getenv(name); value != nullptr) {
      environment.push_back(absl::StrCat(name, "=", value));
    }
  }
  return environment;
}

// Not found out by connecting: the device takes one connection, and ends with it.
bool Listens(const std::filesystem::path& socket) {
  constexpr absl::string_view kAccepts =
      " 00010000 ";  // the kernel's flag of a socket that listens
  const absl::StatusOr<std::string> sockets = ReadFile("/proc/net/unix", kMaxSocketsBytes);
  const std::string name = absl::StrCat(" ", socket.string());
  for (const absl::string_view line : absl::StrSplit(sockets.ok() ? *sockets : "", '\n')) {
    if (absl::EndsWith(line, name) && absl::StrContains(line, kAccepts)) {
      return true;
    }
  }
  return false;
}

class Keeper {
 public:
  Keeper(const KeeperOptions& options, LogPipe console, UniqueFd report)
      : options_(options),
        layout_{options.machine},
        console_(std::move(console)),
        report_(std::move(report)) {}

  absl::Status Start();
  void Run();
  void Clear();
  void Report(const absl::Status& status) { init::ReportStart(report_, status); }

 private:
  absl::StatusOr<pid_t> StartProgram(const std::vector<std::string>& command,
                                     const UniqueFd& memory = UniqueFd());
  absl::Status StartDevice();
  void Reap();
  void HandleSignals();

  const KeeperOptions& options_;
  const Layout layout_;
  LogPipe console_;
  UniqueFd report_, lock_, signals_;
  pid_t device_ = 0, qemu_ = 0;
  absl::Time kill_at_ = absl::InfiniteFuture();
};

absl::StatusOr<pid_t> Keeper::StartProgram(const std::vector<std::string>& command,
                                           const UniqueFd& memory) {
  init::ChildOptions child{.args = command,
                           .env = Environment(),
                           .output = console_.write_end(),
                           .descriptors = {{lock_.get(), kLockDescriptor}},
                           .dies_with_parent = true};
  if (memory.valid()) {
    child.descriptors.emplace_back(memory.get(), kMemoryDescriptor);
  }
  return init::StartChild(child);
}

// Returns when it listens: qemu connects once.
absl::Status Keeper::StartDevice() {
  VIBE_ASSIGN_OR_RETURN(device_, StartProgram(options_.device));
  const absl::Time deadline = absl::Now() + kDeviceStart;
  while (!Listens(layout_.device())) {
    console_.Pump();
    Reap();
    if (device_ == 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          options_.device.front(), " does not run; ", layout_.console_log().string(), " says why"));
    }
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat(options_.device.front(), " does not answer"));
    }
    absl::SleepFor(kPoll);
  }
  return absl::OkStatus();
}

absl::Status Keeper::Start() {
  VIBE_ASSIGN_OR_RETURN(lock_, init::LockMachine(layout_.lock(), layout_.directory));
  VIBE_ASSIGN_OR_RETURN(signals_, init::SignalDescriptor());
  for (const std::filesystem::path& stale :
       {layout_.control(), layout_.device(), layout_.vsock(), layout_.port(), layout_.paused(),
        layout_.children()}) {
    VIBE_RETURN_IF_ERROR(RemoveAll(stale));
  }
  VIBE_ASSIGN_OR_RETURN(const native::RunRecord self, native::RecordOf(::getpid()));
  VIBE_RETURN_IF_ERROR(ReplaceFile(layout_.record(), native::FormatRecord(self), 0600));
  if (!options_.device.empty()) {
    VIBE_RETURN_IF_ERROR(StartDevice());
  }
  // qemu gives it its size. It is gone with qemu and the device: nobody else has it.
  const UniqueFd memory(::memfd_create("vibe-memory", MFD_CLOEXEC));
  if (!memory.valid()) {
    return ErrnoError(errno, "make the guest's memory");
  }
  VIBE_ASSIGN_OR_RETURN(qemu_, StartProgram(options_.qemu, memory));
  std::string children;  // for who pauses the machine
  for (const pid_t pid : {qemu_, device_}) {
    if (pid != 0) {
      VIBE_ASSIGN_OR_RETURN(const native::RunRecord child, native::RecordOf(pid));
      absl::StrAppend(&children, native::FormatRecord(child));
    }
  }
  return ReplaceFile(layout_.children(), children, 0600);
}

void Keeper::Reap() {
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    if (pid == qemu_) {
      qemu_ = 0;
      Say(absl::StrCat("qemu ", DescribeEnd(status)));
    } else if (pid == device_) {
      device_ = 0;
      Say(absl::StrCat("the vsock device ", DescribeEnd(status)));
      if (qemu_ != 0 && kill_at_ == absl::InfiniteFuture()) {
        // A machine that nobody can reach is of no use; a new one is.
        Say("the machine ends with it");
        ::kill(qemu_, SIGTERM);
        kill_at_ = absl::Now() + kQemuEnd;
      }
    }
  }
}

void Keeper::HandleSignals() {
  for (int signal = init::NextSignal(signals_); signal != 0; signal = init::NextSignal(signals_)) {
    if (signal == SIGTERM || signal == SIGINT) {
      Say("asked to end");
      ::kill(qemu_, SIGTERM);
      kill_at_ = std::min(kill_at_, absl::Now() + kQemuEnd);
    }
  }
}

void Keeper::Run() {
  while (qemu_ != 0) {
    pollfd polls[] = {{signals_.get(), POLLIN, 0}, {console_.read_end(), POLLIN, 0}};
    int timeout = -1;
    if (kill_at_ < absl::InfiniteFuture()) {
      const absl::Duration left = absl::Ceil(kill_at_ - absl::Now(), absl::Milliseconds(1));
      timeout = static_cast<int>(std::clamp<int64_t>(absl::ToInt64Milliseconds(left), 0, 60'000));
    }
    ::poll(polls, std::size(polls), timeout);
    HandleSignals();
    Reap();
    console_.Pump();
    if (qemu_ != 0 && absl::Now() >= kill_at_) {
      ::kill(qemu_, SIGKILL);
      kill_at_ = absl::Now() + absl::Seconds(1);
    }
  }
}

void Keeper::Clear() {
  for (const pid_t pid : {qemu_, device_}) {
    if (pid != 0) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }
  if (lock_.valid()) {  // without it all this is another machine's
    ::unlink(layout_.record().c_str());
    for (const std::filesystem::path& path :
         {layout_.control(), layout_.device(), layout_.vsock(), layout_.port()}) {
      ::unlink(path.c_str());
    }
    // Free only when this process is gone: whoever takes the lock then knows that nothing is left.
    (void)lock_.release();
  }
  console_.Pump();
}

}  // namespace

int Keep(const KeeperOptions& options, UniqueFd report) {
  const Layout layout{options.machine};
  absl::StatusOr<LogPipe> console =
      LogPipe::Make(layout.console_log(), kMaxConsoleBytes, LogPipe::Stamp::kTime);
  if (!console.ok()) {
    const std::string text = absl::StrCat("error: ", console.status().message(), "\n");
    return ::write(report.get(), text.data(), text.size()) < 0 ? 2 : 1;
  }
  // A console that nobody empties must not stop those who write to it.
  ::fcntl(console->write_end(), F_SETFL, O_NONBLOCK);
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ::dup2(null.get(), STDIN_FILENO);
  ::dup2(console->write_end(), STDOUT_FILENO);
  ::dup2(console->write_end(), STDERR_FILENO);
  Say("---- start");
  if (!options.note.empty()) {
    Say(options.note);
  }
  console->Pump();  // whoever sees that a machine runs finds that its log begins here
  Keeper keeper(options, *std::move(console), std::move(report));
  const absl::Status status = keeper.Start();
  keeper.Report(status);
  if (status.ok()) {
    keeper.Run();
  }
  keeper.Clear();
  return status.ok() ? 0 : 1;
}

}  // namespace vibe::vm::qemu
