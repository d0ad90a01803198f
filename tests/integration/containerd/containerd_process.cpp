#include "containerd_process.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "base/subprocess.h"

namespace vibe::testing {
namespace {

namespace fs = std::filesystem;

constexpr char kConfig[] = R"(version = 2
root = "DIR/root"
state = "DIR/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "DIR/sock"
[ttrpc]
  address = "DIR/sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "DIR/opt"
)";

std::string Config(const std::string& directory) {
  std::string text = kConfig;
  for (size_t at = text.find("DIR"); at != std::string::npos; at = text.find("DIR")) {
    text.replace(at, 3, directory);
  }
  return text;
}

// Runs in the child between fork and exec: system calls only.
bool EnterNewMounts(const char* root, const char* disk, const char* disk_options, bool network) {
  if (unshare(CLONE_NEWNS | (network ? CLONE_NEWNET : 0)) != 0 ||
      mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("tmpfs", "/run", "tmpfs", 0, "mode=755") != 0) {
    return false;
  }
  // crun does not run under a mixed hierarchy of cgroups.
  umount2("/sys/fs/cgroup/unified", MNT_DETACH);
  if (disk[0] != '\0') {
    return mount(disk, root, "btrfs", MS_NOATIME, "discard=async,user_subvol_rm_allowed") == 0;
  }
  return disk_options[0] == '\0' || mount("tmpfs", root, "tmpfs", 0, disk_options) == 0;
}

std::string ReadAll(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<pid_t> Processes(const fs::path& cgroup_procs) {
  std::vector<pid_t> pids;
  std::ifstream file(cgroup_procs);
  for (pid_t pid = 0; file >> pid;) {
    pids.push_back(pid);
  }
  return pids;
}

void RemoveCgroup(const fs::path& group) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(group, ignored)) {
    if (entry.is_directory(ignored)) {
      RemoveCgroup(entry.path());
    }
  }
  for (const pid_t pid : Processes(group / "cgroup.procs")) {
    kill(pid, SIGKILL);
  }
  for (int i = 0; i < 100 && rmdir(group.c_str()) != 0 && errno == EBUSY; ++i) {
    absl::SleepFor(absl::Milliseconds(20));
  }
}

// Shims carry the address of their containerd.
std::vector<pid_t> Shims(const fs::path& directory) {
  std::vector<pid_t> pids;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    pid_t pid = 0;
    if (absl::SimpleAtoi(entry.path().filename().string(), &pid)) {
      const std::string command = ReadAll(entry.path() / "cmdline");
      if (absl::StrContains(command, "containerd-shim") &&
          absl::StrContains(command, (directory / "sock").string())) {
        pids.push_back(pid);
      }
    }
  }
  return pids;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ContainerdProcess>> ContainerdProcess::Start(
    const ContainerdOptions& options) {
  char directory[] = "/tmp/vibe-containerd-XXXXXX";
  if (mkdtemp(directory) == nullptr) {
    return ErrnoError(errno, "mkdtemp");
  }
  std::unique_ptr<ContainerdProcess> process(new ContainerdProcess(directory));
  process->options_ = options;
  VIBE_RETURN_IF_ERROR(ReplaceFile(fs::path(directory) / "config.toml", Config(directory)));
  VIBE_RETURN_IF_ERROR(MakeDirectories(fs::path(directory) / "root"));
  if (options.btrfs) {
    VIBE_RETURN_IF_ERROR(process->MakeDisk());
  }
  VIBE_RETURN_IF_ERROR(process->Spawn());
  process->disk_.fd.reset();
  return process;
}

absl::Status ContainerdProcess::MakeDisk() {
  const fs::path file = directory_ / "disk.img";
  VIBE_RETURN_IF_ERROR(ReplaceFile(file, ""));
  fs::resize_file(file, options_.disk_bytes);
  VIBE_ASSIGN_OR_RETURN(disk_, init::AttachLoopDevice(file, absl::Now()));
  VIBE_ASSIGN_OR_RETURN(const SubprocessResult made,
                        RunSubprocess({.args = {"mkfs.btrfs", "-q", "-K", disk_.path}}));
  return made.exit_code == 0 ? absl::OkStatus() : absl::InternalError(made.err);
}

ContainerdProcess::~ContainerdProcess() {
  Kill();
  for (const pid_t pid : Shims(directory_)) {
    kill(pid, SIGKILL);
  }
  for (const auto& hierarchy : fs::directory_iterator("/sys/fs/cgroup")) {
    RemoveCgroup(absl::StrCat(hierarchy.path().string(), cgroup()));
  }
  network_.reset();
  mounts_.reset();
  RemoveAll(directory_).IgnoreError();
}

containerd::Client::Options ContainerdProcess::client_options() const {
  return {.socket_path = directory_ / "sock",
          .runtime_binary = access("/usr/bin/crun", X_OK) == 0 ? "/usr/bin/crun" : "",
          .snapshotter = "overlayfs"};
}

std::string ContainerdProcess::cgroup() const {
  return absl::StrCat("/", directory_.filename().string());
}

std::string ContainerdProcess::log() const {
  return ReadAll(directory_ / "log");
}

void ContainerdProcess::Kill() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
}

absl::Status ContainerdProcess::Restart() {
  return Spawn();
}

absl::StatusOr<pid_t> ContainerdProcess::Run(const std::vector<std::string>& args,
                                             const fs::path& output) {
  std::vector<char*> argv;
  for (const std::string& arg : args) {
    argv.push_back(const_cast<char*>(arg.c_str()));
  }
  argv.push_back(nullptr);
  const std::string root = directory_ / "root";
  const std::string disk = options_.btrfs ? disk_.path : "";
  const std::string disk_options =
      options_.disk_bytes == 0 ? "" : absl::StrCat("size=", options_.disk_bytes);
  const bool network = options_.network;
  const pid_t pid = fork();
  if (pid < 0) {
    return ErrnoError(errno, "fork");
  }
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int file = open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(file, 1);
    dup2(file, 2);
    bool entered = true;
    if (!mounts_.valid()) {
      entered = EnterNewMounts(root.c_str(), disk.c_str(), disk_options.c_str(), network);
    } else {
      entered = setns(mounts_.get(), CLONE_NEWNS) == 0 &&
                (!network || setns(network_.get(), CLONE_NEWNET) == 0);
    }
    if (entered) {
      execvp(argv[0], argv.data());
    }
    _exit(126);
  }
  return pid;
}

absl::Status ContainerdProcess::Spawn() {
  VIBE_ASSIGN_OR_RETURN(
      pid_, Run({"containerd", "-c", (directory_ / "config.toml").string()}, directory_ / "log"));
  containerd::Client client(client_options());
  for (int i = 0; i < 10 && waitpid(pid_, nullptr, WNOHANG) == 0; ++i) {
    if (client.Version().ok()) {
      const std::string namespaces = absl::StrCat("/proc/", pid_, "/ns/");
      mounts_.reset(open((namespaces + "mnt").c_str(), O_RDONLY | O_CLOEXEC));
      network_.reset(open((namespaces + "net").c_str(), O_RDONLY | O_CLOEXEC));
      return absl::OkStatus();
    }
  }
  return absl::UnavailableError(absl::StrCat("containerd does not come up:\n", this->log()));
}

namespace {

int CountEntries(const UniqueFd& mounts, pid_t pid, const fs::path& path) {
  if (!mounts.valid() || pid <= 0) {
    return -1;
  }
  // Through the process, as the path may lie on a disk that is mounted for it alone.
  int count = 0;
  std::error_code missing;
  for (const auto& entry :
       fs::directory_iterator(absl::StrCat("/proc/", pid, "/root", path.string()), missing)) {
    count += entry.exists() ? 1 : 0;
  }
  return count;
}

}  // namespace

int ContainerdProcess::StoredBlobs() const {
  const fs::path content = directory_ / "root/io.containerd.content.v1.content";
  return CountEntries(mounts_, pid_, content / "blobs/sha256") +
         CountEntries(mounts_, pid_, content / "ingest");
}

int ContainerdProcess::StoredSnapshots() const {
  return CountEntries(mounts_, pid_,
                      directory_ / "root/io.containerd.snapshotter.v1.overlayfs/snapshots");
}

int ContainerdProcess::RunningShims() const {
  return static_cast<int>(Shims(directory_).size());
}

}  // namespace vibe::testing
