#include "init/guest/root.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "init/guest/modules.h"

namespace vibe::init::guest {
namespace {

constexpr char kImage[] = "/root.squashfs";
constexpr char kNew[] = "/new";

struct Mount {
  const char* type;
  const char* target;
  unsigned long flags;
  const char* options;
  mode_t mode;
};

absl::Status DoMount(const char* source, const Mount& mount) {
  ::mkdir(mount.target, mount.mode);
  if (::mount(source, mount.target, mount.type, mount.flags, mount.options) != 0) {
    return ErrnoError(errno, absl::StrCat("mount ", mount.type, " at ", mount.target));
  }
  return absl::OkStatus();
}

constexpr unsigned long kPlain = MS_NOSUID | MS_NODEV;
constexpr unsigned long kData = kPlain | MS_NOEXEC;

// A loop device with the image in it; the device lives as long as something of it is mounted.
absl::Status AttachImage(std::string& device) {
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  const int number = control.valid() ? ::ioctl(control.get(), LOOP_CTL_GET_FREE) : -1;
  if (number < 0) {
    return ErrnoError(errno, "find a loop device");
  }
  device = absl::StrCat("/dev/loop", number);
  const UniqueFd loop(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd image(::open(kImage, O_RDONLY | O_CLOEXEC));
  loop_config config{};
  config.fd = static_cast<uint32_t>(image.get());
  config.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
  if (!loop.valid() || !image.valid() || ::ioctl(loop.get(), LOOP_CONFIGURE, &config) != 0) {
    return ErrnoError(errno, "attach the root image to a loop device");
  }
  // Mounted while the descriptor is open: the device clears itself at its last close.
  return DoMount(device.c_str(), {"squashfs", "/overlay/lower", MS_RDONLY | MS_NODEV, "", 0755});
}

absl::Status MountImage() {
  VIBE_RETURN_IF_ERROR(LoadModules("root"));
  VIBE_RETURN_IF_ERROR(DoMount("overlay", {"tmpfs", "/overlay", MS_NODEV, "mode=0755", 0755}));
  for (const char* directory : {"/overlay/lower", "/overlay/upper", "/overlay/work"}) {
    ::mkdir(directory, 0755);
  }
  std::string device;
  VIBE_RETURN_IF_ERROR(AttachImage(device));
  return DoMount("root",
                 {"overlay", kNew, MS_NODEV,
                  "lowerdir=/overlay/lower,upperdir=/overlay/upper,workdir=/overlay/work", 0755});
}

absl::Status MoveInto(const char* mount) {
  const std::string target = absl::StrCat(kNew, mount);
  ::mkdir(target.c_str(), 0755);
  if (::mount(mount, target.c_str(), nullptr, MS_MOVE, nullptr) != 0) {
    return ErrnoError(errno, absl::StrCat("move ", mount, " into the new root"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MountKernelFileSystems() {
  VIBE_RETURN_IF_ERROR(DoMount("dev", {"devtmpfs", "/dev", MS_NOSUID, "mode=0755", 0755}));
  VIBE_RETURN_IF_ERROR(DoMount("proc", {"proc", "/proc", kData, "", 0555}));
  return DoMount("sys", {"sysfs", "/sys", kData, "", 0555});
}

absl::Status SwitchRoot() {
  if (::access(kImage, F_OK) == 0) {
    VIBE_RETURN_IF_ERROR(MountImage());
  } else {
    ::mkdir(kNew, 0755);
    if (::mount("/", kNew, nullptr, MS_BIND, nullptr) != 0) {
      return ErrnoError(errno, "bind the initial file system over itself");
    }
  }
  for (const char* mount : {"/dev", "/proc", "/sys"}) {
    VIBE_RETURN_IF_ERROR(MoveInto(mount));
  }
  if (::chdir(kNew) != 0 || ::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 ||
      ::chroot(".") != 0 || ::chdir("/") != 0) {
    return ErrnoError(errno, "switch to the new root");
  }
  return absl::OkStatus();
}

absl::Status MountTheRest() {
  VIBE_RETURN_IF_ERROR(DoMount("run", {"tmpfs", "/run", kPlain, "mode=0755", 0755}));
  VIBE_RETURN_IF_ERROR(DoMount("tmp", {"tmpfs", "/tmp", kPlain, "mode=1777", 01777}));
  VIBE_RETURN_IF_ERROR(DoMount("shm", {"tmpfs", "/dev/shm", kPlain, "mode=1777", 01777}));
  VIBE_RETURN_IF_ERROR(DoMount(
      "pts", {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666", 0755}));
  VIBE_RETURN_IF_ERROR(DoMount("mqueue", {"mqueue", "/dev/mqueue", kData, "", 0755}));
  VIBE_RETURN_IF_ERROR(
      DoMount("cgroup2", {"cgroup2", "/sys/fs/cgroup", kData, "nsdelegate", 0755}));
  // Network namespaces and shims' mounts have to propagate to all that look, as everywhere else.
  if (::mount(nullptr, "/", nullptr, MS_SHARED | MS_REC, nullptr) != 0) {
    return ErrnoError(errno, "share the root's mounts");
  }
  return absl::OkStatus();
}

}  // namespace vibe::init::guest
