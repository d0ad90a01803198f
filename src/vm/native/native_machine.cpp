#include "vm/native/native_machine.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "base/subprocess.h"
#include "base/unix_socket.h"
#include "rpc/ports.h"
#include "vm/data_disk.h"
#include "vm/native/run_record.h"

extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 forgets to say that these are C
}

namespace vibe::vm::native {
namespace fs = std::filesystem;
namespace {

constexpr absl::Duration kLockPoll = absl::Milliseconds(2);
constexpr off_t kLogTailBytes = 16 << 10;
constexpr size_t kLogTailLines = 20;

fs::path Canonical(const fs::path& directory) {
  std::error_code error;
  fs::path canonical = fs::weakly_canonical(fs::absolute(directory, error), error);
  return error ? directory : canonical;
}

// What vibe-native-init says when it cannot start: "error: …" and maybe "advice: …".
absl::Status StartError(absl::string_view text) {
  std::string message, advice;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "advice: ")) {
      advice = std::string(line.substr(sizeof "advice: " - 1));
    } else if (absl::StartsWith(line, "error: ")) {
      message = std::string(line.substr(sizeof "error: " - 1));
    }
  }
  if (message.empty()) {
    message = absl::StrCat("vibe-native-init failed: ", absl::StripAsciiWhitespace(text));
  }
  return WithAdvice(absl::FailedPreconditionError(message), advice);
}

// A machine that powers off by itself has its host's half to the last; that one holds the lock
// until its process ends.
absl::Status AwaitUnlocked(const fs::path& path, absl::Time deadline) {
  const UniqueFd lock(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!lock.valid()) {
    return absl::OkStatus();
  }
  while (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("a process still holds ", path.string()));
    }
    absl::SleepFor(kLockPoll);
  }
  return absl::OkStatus();
}

// Vibe kept the data in a directory of the host's own file system once.
absl::Status RefuseDataDirectory(const Layout& layout) {
  const fs::path directory = layout.directory / "data";
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    return absl::OkStatus();
  }
  return WithAdvice(
      absl::FailedPreconditionError(absl::StrCat(
          directory.string(), " is the data of an earlier Vibe, which this one does not read")),
      "move that directory away; the projects' volumes are in it, at "
      "projects/ID/current/volumes");
}

absl::Status NeedRoot() {
  if (::geteuid() == 0) {
    return absl::OkStatus();
  }
  return WithAdvice(absl::PermissionDeniedError("the native machine needs root: it makes network, "
                                                "mount and process namespaces and cgroups"),
                    "run vibe as root, for instance with `sudo -E vibe …`");
}

}  // namespace

NativeMachine::NativeMachine(Options options)
    : options_(std::move(options)), layout_{Canonical(options_.directory)} {}

absl::StatusOr<Cgroup> NativeMachine::MachineCgroup() const {
  VIBE_ASSIGN_OR_RETURN(std::vector<CgroupHierarchy> hierarchies, CgroupHierarchies());
  return Cgroup(std::move(hierarchies), CgroupName(layout_.directory));
}

absl::StatusOr<UniqueFd> NativeMachine::Process() const {
  return OpenRecordedProcess(layout_.record());
}

absl::Status NativeMachine::Start() {
  absl::MutexLock lock(&power_);
  if (Process().ok()) {
    return absl::OkStatus();
  }
  VIBE_RETURN_IF_ERROR(NeedRoot());
  VIBE_RETURN_IF_ERROR(MakeDirectories(layout_.directory, 0700));
  VIBE_RETURN_IF_ERROR(RefuseDataDirectory(layout_));
  VIBE_ASSIGN_OR_RETURN(const uint64_t disk_bytes, options_.disk_bytes());
  VIBE_RETURN_IF_ERROR(PrepareDataDisk(layout_.disk(), disk_bytes));
  SubprocessOptions command{
      .args = {options_.init_program.string(), "--machine", layout_.directory.string()},
      .input = "",
      .env = {},
      .timeout = options_.start_timeout};
  command.args.insert(command.args.end(), options_.init_arguments.begin(),
                      options_.init_arguments.end());
  // It returns when the machine's first process runs; the machine itself goes on in a session of
  // its own.
  VIBE_ASSIGN_OR_RETURN(const SubprocessResult result, RunSubprocess(command));
  return result.exit_code == 0 ? absl::OkStatus() : StartError(result.err);
}

absl::StatusOr<UniqueFd> NativeMachine::Dial(uint32_t port) {
  const char* socket = port == rpc::kSupervisorPort ? kSupervisorSocket
                       : port == rpc::kForwardPort  ? kForwardSocket
                                                    : nullptr;
  if (socket == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("the machine has no port ", port));
  }
  // Through the directory's descriptor, as its path may be longer than a socket's address can be.
  const UniqueFd run(::open(layout_.run().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!run.valid()) {
    return absl::UnavailableError("the machine is not running");
  }
  absl::StatusOr<UniqueFd> stream =
      ConnectUnix(absl::StrCat("/proc/self/fd/", run.get(), "/", socket));
  if (!stream.ok()) {
    return absl::Status(stream.status().code(),
                        absl::StrCat("nobody listens on ", (layout_.run() / socket).string()));
  }
  return stream;
}

absl::Status NativeMachine::RequestShutdown() {
  absl::MutexLock lock(&power_);
  const absl::StatusOr<UniqueFd> process = Process();
  if (!process.ok()) {
    return absl::OkStatus();
  }
  if (::pidfd_send_signal(process->get(), SIGTERM, nullptr, 0) != 0 && errno != ESRCH) {
    return ErrnoError(errno, "ask the machine to power off");
  }
  return absl::OkStatus();
}

absl::Status NativeMachine::Kill() {
  absl::MutexLock lock(&power_);
  const absl::StatusOr<UniqueFd> process = Process();
  VIBE_ASSIGN_OR_RETURN(const Cgroup cgroup, MachineCgroup());
  const absl::Time deadline = absl::Now() + options_.kill_timeout;
  if (process.ok() && ::pidfd_send_signal(process->get(), SIGKILL, nullptr, 0) != 0 &&
      errno != ESRCH) {
    return ErrnoError(errno, "kill the machine");
  }
  // The cgroup also has what an init that was itself killed left.
  VIBE_RETURN_IF_ERROR(Annotate(cgroup.Kill(deadline), "kill the machine"));
  VIBE_RETURN_IF_ERROR(AwaitUnlocked(layout_.lock(), deadline));
  VIBE_RETURN_IF_ERROR(AwaitUnlocked(layout_.disk(), deadline));  // its loop device locks it
  VIBE_RETURN_IF_ERROR(cgroup.Remove(deadline));
  for (const fs::path& path :
       {layout_.record(), layout_.run() / kSupervisorSocket, layout_.run() / kForwardSocket}) {
    VIBE_RETURN_IF_ERROR(RemoveAll(path));
  }
  return absl::OkStatus();
}

absl::Status NativeMachine::SetFrozen(bool frozen) {
  absl::MutexLock lock(&power_);
  if (!Process().ok()) {
    return absl::FailedPreconditionError("the machine is not running");
  }
  VIBE_ASSIGN_OR_RETURN(const Cgroup cgroup, MachineCgroup());
  return cgroup.SetFrozen(frozen);
}

absl::Status NativeMachine::Pause() {
  return SetFrozen(true);
}

absl::Status NativeMachine::Resume() {
  return SetFrozen(false);
}

PowerState NativeMachine::state() const {
  if (!Process().ok()) {
    return PowerState::kOff;
  }
  const absl::StatusOr<Cgroup> cgroup = MachineCgroup();
  return cgroup.ok() && cgroup->Frozen() ? PowerState::kPaused : PowerState::kOn;
}

std::vector<std::string> NativeMachine::LastLog() const {
  const UniqueFd file(::open(layout_.console_log().c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) {
    return {};
  }
  const off_t size = ::lseek(file.get(), 0, SEEK_END);
  std::string text(kLogTailBytes, '\0');
  const ssize_t count = ::pread(file.get(), text.data(), text.size(),
                                size > kLogTailBytes ? size - kLogTailBytes : 0);
  text.resize(count > 0 ? static_cast<size_t>(count) : 0);
  std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  if (lines.size() > kLogTailLines) {
    lines.erase(lines.begin(), lines.end() - kLogTailLines);
  }
  return lines;
}

}  // namespace vibe::vm::native
