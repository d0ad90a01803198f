#include "network/net_namespace.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"

namespace vibe::network {
namespace {

// A thread that changed its namespace must not be used for anything else.
absl::Status RunOnNewThread(const std::function<absl::Status()>& body) {
  absl::Status status;
  std::thread thread([&] { status = body(); });
  thread.join();
  return status;
}

}  // namespace

absl::StatusOr<UniqueFd> LockNamespaces(const std::filesystem::path& directory) {
  VIBE_RETURN_IF_ERROR(MakeDirectories(directory));
  UniqueFd lock(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock.valid()) {
    return ErrnoError(errno, absl::StrCat("open ", directory.string()));
  }
  while (::flock(lock.get(), LOCK_EX) != 0) {
    if (errno != EINTR) {
      return ErrnoError(errno, absl::StrCat("lock ", directory.string()));
    }
  }
  const char* path = directory.c_str();
  if (::mount("", path, nullptr, MS_SHARED | MS_REC, nullptr) == 0) {
    return lock;
  }
  // Only a mount point can be shared: make it one.
  if (errno != EINVAL || ::mount(path, path, nullptr, MS_BIND | MS_REC, nullptr) != 0 ||
      ::mount("", path, nullptr, MS_SHARED | MS_REC, nullptr) != 0) {
    return ErrnoError(errno, absl::StrCat("share the mounts of ", directory.string()));
  }
  return lock;
}

absl::Status MakeNetNamespace(const std::filesystem::path& path,
                              const std::function<absl::Status()>& prepare) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
  if (!file.valid()) {
    return ErrnoError(errno, absl::StrCat("make ", path.string()));
  }
  absl::Status status = RunOnNewThread([&]() -> absl::Status {
    if (::unshare(CLONE_NEWNET) != 0) {
      return ErrnoError(errno, "make a network namespace");
    }
    VIBE_RETURN_IF_ERROR(prepare());
    if (::mount("/proc/thread-self/ns/net", path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
      return ErrnoError(errno, absl::StrCat("mount ", path.string()));
    }
    return absl::OkStatus();
  });
  if (!status.ok()) {
    RemoveNetNamespace(path).IgnoreError();
  }
  return status;
}

bool IsNetNamespace(const std::filesystem::path& path) {
  struct statfs info {};
  return ::statfs(path.c_str(), &info) == 0 && info.f_type == NSFS_MAGIC;
}

absl::Status RunInNetNamespace(const std::filesystem::path& path,
                               const std::function<absl::Status()>& body) {
  const UniqueFd ns(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!ns.valid()) {
    return ErrnoError(errno, absl::StrCat("open ", path.string()));
  }
  return RunOnNewThread([&]() -> absl::Status {
    if (::setns(ns.get(), CLONE_NEWNET) != 0) {
      return ErrnoError(errno, absl::StrCat("enter ", path.string()));
    }
    return body();
  });
}

absl::Status RemoveNetNamespace(const std::filesystem::path& path) {
  while (IsNetNamespace(path)) {
    if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
      return ErrnoError(errno, absl::StrCat("unmount ", path.string()));
    }
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoError(errno, absl::StrCat("remove ", path.string()));
  }
  return absl::OkStatus();
}

}  // namespace vibe::network
