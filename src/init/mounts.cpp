#include "init/mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "init/data_file_system.h"
#include "init/log_pipe.h"
#include "init/loop_device.h"

namespace vibe::init {
namespace fs = std::filesystem;
namespace native = vm::native;
namespace inside = vm::native::inside;
namespace {

constexpr absl::Duration kDetachLimit = absl::Seconds(10);
constexpr unsigned long kInert = MS_NOSUID | MS_NODEV | MS_NOEXEC;

absl::Status Mount(const char* source, const fs::path& target, const char* type,
                   unsigned long flags, const char* data = nullptr) {
  if (::mount(source, target.c_str(), type, flags, data) != 0) {
    return ErrnoError(errno, absl::StrCat("mount ", target.string()));
  }
  return absl::OkStatus();
}

// Lets go of what is mounted at and below a path, so that nothing looks at it through the mount
// table.
void Uncover(const char* path) {
  while (::umount2(path, MNT_DETACH) == 0) {
  }
}

// Holds on to a directory that the new /run may cover.
absl::StatusOr<UniqueFd> Hold(const fs::path& path) {
  UniqueFd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!fd.valid()) {
    return ErrnoError(errno, absl::StrCat("open ", path.string()));
  }
  return fd;
}

absl::Status Bind(const UniqueFd& source, const fs::path& target) {
  VIBE_RETURN_IF_ERROR(MakeDirectories(target));
  return Mount(absl::StrCat("/proc/self/fd/", source.get()).c_str(), target, nullptr,
               MS_BIND | MS_REC);
}

absl::Status MountCgroups(const std::vector<native::CgroupHierarchy>& hierarchies) {
  const fs::path root = "/sys/fs/cgroup";
  if (native::IsUnified(hierarchies)) {
    return Mount("cgroup2", root, "cgroup2", kInert);
  }
  // Without the version 2 tree that may stand beside version 1: crun refuses to run under both.
  VIBE_RETURN_IF_ERROR(Mount("tmpfs", root, "tmpfs", kInert, "mode=755,size=1m"));
  for (const native::CgroupHierarchy& hierarchy : hierarchies) {
    if (hierarchy.version2) {
      continue;
    }
    const std::string name = hierarchy.mount.filename();
    VIBE_RETURN_IF_ERROR(MakeDirectories(root / name));
    VIBE_RETURN_IF_ERROR(Mount("cgroup", root / name, "cgroup", kInert, hierarchy.options.c_str()));
    // "cpu" and "cpuacct" lead to "cpu,cpuacct", where programs look for them.
    for (absl::string_view controller : absl::StrSplit(hierarchy.options, ',')) {
      const fs::path link = root / std::string(controller);
      if (!absl::StrContains(controller, "=") && controller != "none" && controller != name &&
          ::symlink(name.c_str(), link.c_str()) != 0 && errno != EEXIST) {
        return ErrnoError(errno, absl::StrCat("link ", link.string()));
      }
    }
  }
  return absl::OkStatus();
}

// The supervisor's own look-ups. `resolv_conf` is what /etc/resolv.conf is in truth: on many hosts
// a file in the /run that the machine does not see.
absl::Status WriteResolvConf(const fs::path& resolv_conf) {
  const std::string text = absl::StrCat("nameserver ", native::kUplinkNameserver, "\n");
  std::error_code error;
  if (!fs::exists(resolv_conf, error)) {
    if (!absl::StartsWith(resolv_conf.string(), "/run/")) {
      return absl::NotFoundError("the host has no /etc/resolv.conf to put the machine's over");
    }
    VIBE_RETURN_IF_ERROR(MakeDirectories(resolv_conf.parent_path()));
    return ReplaceFile(resolv_conf, text);
  }
  const fs::path own = "/run/vibe/resolv.conf";
  VIBE_RETURN_IF_ERROR(ReplaceFile(own, text));
  return Mount(own.c_str(), resolv_conf, nullptr, MS_BIND);
}

}  // namespace

absl::Status MakeMounts(const MountOptions& options) {
  // Nothing of ours reaches the host; what the host unmounts is not kept busy by us, and what it
  // mounts later (a disk with an app on it) is seen here too.
  VIBE_RETURN_IF_ERROR(Mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC));
  // What had the file before is ending: its process is gone, and the kernel clears away.
  VIBE_ASSIGN_OR_RETURN(const LoopDevice data,
                        AttachLoopDevice(options.layout.disk(), absl::Now() + kDetachLimit));
  VIBE_ASSIGN_OR_RETURN(const UniqueFd host, Hold(options.layout.run()));
  VIBE_ASSIGN_OR_RETURN(const UniqueFd logs, Hold(options.layout.logs()));
  VIBE_ASSIGN_OR_RETURN(const UniqueFd programs, Hold(options.programs));
  std::error_code error;
  const fs::path resolv_conf = fs::weakly_canonical("/etc/resolv.conf", error);

  for (const char* path : {"/proc", "/sys", "/dev/shm", "/dev/mqueue"}) {
    Uncover(path);
  }
  VIBE_RETURN_IF_ERROR(Mount("proc", "/proc", "proc", kInert));
  VIBE_RETURN_IF_ERROR(Mount("sysfs", "/sys", "sysfs", kInert));
  VIBE_RETURN_IF_ERROR(MountCgroups(options.hierarchies));
  // Shims, runtimes and CNI plugins keep sockets and state at fixed paths below /run.
  VIBE_RETURN_IF_ERROR(Mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755"));
  VIBE_RETURN_IF_ERROR(MountDataFileSystem(data.path, inside::kData, options.mkfs));
  VIBE_RETURN_IF_ERROR(Bind(host, inside::kHost));
  VIBE_RETURN_IF_ERROR(Bind(logs, inside::kLogs));
  VIBE_RETURN_IF_ERROR(Bind(programs, inside::kBin));
  VIBE_RETURN_IF_ERROR(MakeDirectories(inside::kState, 0700));
  VIBE_RETURN_IF_ERROR(MakeDirectories("/run/lock"));
  // Shared, so that a network namespace's name that one mount namespace lets go is gone in all.
  VIBE_RETURN_IF_ERROR(MakeDirectories(inside::kNamespaces));
  VIBE_RETURN_IF_ERROR(Mount(inside::kNamespaces, inside::kNamespaces, nullptr, MS_BIND));
  VIBE_RETURN_IF_ERROR(Mount(nullptr, inside::kNamespaces, nullptr, MS_SHARED));
  if (fs::is_directory("/dev/shm", error)) {
    VIBE_RETURN_IF_ERROR(Mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"));
  }
  if (fs::is_directory("/dev/mqueue", error)) {
    VIBE_RETURN_IF_ERROR(Mount("mqueue", "/dev/mqueue", "mqueue", kInert));
  }
  if (options.nameserver) {
    if (absl::Status status = WriteResolvConf(resolv_conf); !status.ok()) {
      Say(absl::StrCat("names cannot be looked up in the machine: ", status.message()));
    }
  }
  // Large things are unpacked here, so it is on the data's disk; nothing in it outlives a boot.
  const fs::path temporary = fs::path(inside::kData) / "tmp";
  VIBE_RETURN_IF_ERROR(RemoveAll(temporary));
  return MakeDirectories(temporary, 0700);
}

void Unmount() {
  for (const char* path : {inside::kNamespaces, inside::kData, inside::kHost, inside::kBin}) {
    ::umount2(path, MNT_DETACH);
  }
}

}  // namespace vibe::init
