#include "init/loop_device.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"

namespace vibe::init {
namespace {

constexpr char kControl[] = "/dev/loop-control";
constexpr absl::Duration kPoll = absl::Milliseconds(2);
constexpr int kTries = 100;  // others take free devices too
constexpr uint32_t kBlock = 4096;

// flock's locks belong to the open file, which the loop device keeps: the lock ends with it.
absl::Status Lock(const UniqueFd& file, const std::filesystem::path& path, absl::Time deadline) {
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return ErrnoError(errno, absl::StrCat("lock ", path.string()));
    }
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("another process or loop device holds ", path.string()));
    }
    absl::SleepFor(kPoll);
  }
  return absl::OkStatus();
}

absl::Status NoLoopDevices(int error, const std::string& path) {
  return WithAdvice(absl::FailedPreconditionError(
                        absl::StrCat("this host gives no loop device for the data disk: ",
                                     ErrnoError(error, absl::StrCat("open ", path)).message())),
                    "load the module with `modprobe loop`; inside a container, run that container "
                    "privileged, with "
                    "the host's /dev");
}

absl::StatusOr<UniqueFd> OpenDevice(const std::string& path, int number) {
  UniqueFd device(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!device.valid() && errno == ENOENT) {
    // A container's /dev does not get the nodes that the kernel adds.
    ::mknod(path.c_str(), S_IFBLK | 0600, ::makedev(LOOP_MAJOR, static_cast<unsigned>(number)));
    device.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  }
  if (!device.valid()) {
    return NoLoopDevices(errno, path);
  }
  return device;
}

}  // namespace

absl::StatusOr<LoopDevice> AttachLoopDevice(const std::filesystem::path& file,
                                            absl::Time deadline) {
  const UniqueFd image(::open(file.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!image.valid()) {
    return ErrnoError(errno, absl::StrCat("open ", file.string()));
  }
  VIBE_RETURN_IF_ERROR(Lock(image, file, deadline));
  const UniqueFd control(::open(kControl, O_RDWR | O_CLOEXEC));
  if (!control.valid()) {
    return NoLoopDevices(errno, kControl);
  }
  loop_config config{};
  config.fd = static_cast<uint32_t>(image.get());
  config.block_size = kBlock;
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
  const std::string name = file.string();
  std::strncpy(reinterpret_cast<char*>(config.info.lo_file_name), name.c_str(), LO_NAME_SIZE - 1);
  for (int i = 0; i < kTries; ++i) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) {
      return ErrnoError(errno, "find a free loop device");
    }
    LoopDevice device{.path = absl::StrCat("/dev/loop", number), .fd = UniqueFd()};
    VIBE_ASSIGN_OR_RETURN(device.fd, OpenDevice(device.path, number));
    if (::ioctl(device.fd.get(), LOOP_CONFIGURE, &config) == 0) {
      return device;
    }
    if (errno != EBUSY) {
      return ErrnoError(errno, absl::StrCat("put ", name, " behind ", device.path));
    }
  }
  return absl::UnavailableError("other processes take every free loop device");
}

absl::Status AwaitDetached(const std::filesystem::path& file, absl::Time deadline) {
  const UniqueFd image(::open(file.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  return image.valid() ? Lock(image, file, deadline) : absl::OkStatus();
}

}  // namespace vibe::init
