#include "vm/native/native_machine.h"

#include <fcntl.h>
#include <signal.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "base/subprocess.h"
#include "base/unix_socket.h"
#include "rpc/ports.h"
#include "vm/data_disk.h"
#include "vm/host_room.h"
#include "vm/native/background_machine.h"
#include "vm/native/run_record.h"

extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 forgets to say that these are C
}

namespace vibe::vm::native {
namespace fs = std::filesystem;
namespace {

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
    : options_(std::move(options)), layout_{CanonicalDirectory(options_.directory)} {}

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
  VIBE_RETURN_IF_ERROR(RemoveUnfinished(layout_.directory));
  VIBE_RETURN_IF_ERROR(RefuseDataDirectory(layout_));
  VIBE_RETURN_IF_ERROR(CheckRoom(layout_.directory));
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
  return result.exit_code == 0 ? absl::OkStatus() : StartError(result.err, "vibe-native-init");
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

// One that runs switches itself off when its disk's file can take no more (init/machine_side.cpp).
std::string NativeMachine::Hindrance() {
  return Process().ok() ? "" : NoRoom(layout_.directory);
}

std::vector<std::string> NativeMachine::LastLog() const {
  return LastLines(layout_.console_log());
}

}  // namespace vibe::vm::native
