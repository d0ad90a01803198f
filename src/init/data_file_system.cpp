#include "init/data_file_system.h"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "base/file.h"
#include "base/status.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "init/blank.h"
#include "init/log_pipe.h"
#include "state/disk_reserve.h"

namespace vibe::init {
namespace fs = std::filesystem;
namespace {

constexpr char kLabel[] = "vibe-data";
constexpr uint64_t kSmallest = 128 << 20;  // btrfs wants 109 MiB
constexpr size_t kLogLines = 20;
// async: freed space goes back to the host's disk file without holding up whoever freed it.
constexpr char kOptions[] = "discard=async,user_subvol_rm_allowed";

absl::StatusOr<uint64_t> SizeOf(int fd) {
  uint64_t size = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size) != 0) {
    return ErrnoError(errno, "ask for the data disk's size");
  }
  return size;
}

// What the kernel had to say about file systems and disks, newest last.
std::vector<std::string> KernelLog() {
  std::vector<std::string> lines;
  const UniqueFd log(::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  char record[8192];
  ssize_t count = 0;
  while ((count = ::read(log.get(), record, sizeof record)) > 0 || (count < 0 && errno == EPIPE)) {
    if (count < 0) {
      continue;  // EPIPE: older records were overwritten while we read
    }
    const absl::string_view text(record, static_cast<size_t>(count));
    const size_t message = text.find(';');
    const absl::string_view line =
        message == absl::string_view::npos
            ? absl::string_view()
            : text.substr(message + 1, text.find('\n', message) - message - 1);
    if (absl::StrContains(line, "BTRFS") || absl::StrContains(line, "btrfs") ||
        absl::StrContains(line, "I/O error") || absl::StartsWith(line, "virtio_blk")) {
      lines.emplace_back(line);
    }
  }
  if (lines.size() > kLogLines) {
    lines.erase(lines.begin(), lines.end() - kLogLines);
  }
  return lines;
}

// mkfs.btrfs gives the disk its real mark last; with this one it was killed on the way.
absl::StatusOr<bool> HalfFormatted(int fd) {
  constexpr off_t kMarkOffset = (64 << 10) + 64;
  constexpr absl::string_view kUnfinished = "!BHRfS_M";
  char mark[8];
  if (::pread(fd, mark, sizeof mark, kMarkOffset) < 0) {
    return ErrnoError(errno, "read the data disk");
  }
  return absl::string_view(mark, sizeof mark) == kUnfinished;
}

absl::Status Format(const fs::path& mkfs, const std::string& device) {
  VIBE_ASSIGN_OR_RETURN(
      const SubprocessResult result,
      RunSubprocess({.args = {mkfs.string(), "-q", "-K", "-f", "-L", kLabel, device},
                     .env = {},
                     .timeout = absl::Minutes(2)}));
  if (result.exit_code != 0) {
    return WithLog(absl::InternalError(absl::StrCat("the data disk ", device,
                                                    " cannot be formatted: mkfs.btrfs ended with ",
                                                    result.exit_code)),
                   absl::StrSplit(result.err, '\n', absl::SkipEmpty()));
  }
  return absl::OkStatus();
}

// The host may have made the disk larger since the last boot.
absl::Status Grow(const fs::path& target, uint64_t size) {
  const UniqueFd directory(::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  btrfs_ioctl_dev_info_args device{};
  device.devid = 1;
  if (!directory.valid() || ::ioctl(directory.get(), BTRFS_IOC_DEV_INFO, &device) != 0) {
    return ErrnoError(errno, "ask for the data file system's size");
  }
  if (device.total_bytes + (1 << 20) > size) {
    return absl::OkStatus();
  }
  btrfs_ioctl_vol_args request{};
  std::strncpy(request.name, "1:max", sizeof request.name - 1);
  if (::ioctl(directory.get(), BTRFS_IOC_RESIZE, &request) != 0) {
    return ErrnoError(errno, "grow the data file system to the disk's size");
  }
  Say(absl::StrCat("data disk grown from ", device.total_bytes >> 20, " to ", size >> 20, " MiB"));
  return absl::OkStatus();
}

}  // namespace

absl::Status MountDataFileSystem(const std::string& device, const fs::path& target,
                                 const fs::path& mkfs) {
  const UniqueFd fd(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return ErrnoError(errno, absl::StrCat("open ", device));
  }
  VIBE_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(fd.get()));
  VIBE_RETURN_IF_ERROR(MakeDirectories(target, 0700));
  const auto mount = [&] {
    return ::mount(device.c_str(), target.c_str(), "btrfs", MS_NOATIME | MS_NODEV, kOptions) == 0
               ? 0
               : errno;
  };
  int error = mount();
  if (error == ENODEV) {
    return WithAdvice(
        absl::FailedPreconditionError("this kernel has no btrfs, which keeps the data"),
        "load it with `modprobe btrfs`, or use a kernel that has it");
  }
  if (error != 0) {
    VIBE_ASSIGN_OR_RETURN(bool blank, IsBlank(fd.get(), size));
    if (!blank) {
      VIBE_ASSIGN_OR_RETURN(blank, HalfFormatted(fd.get()));
    }
    if (!blank) {
      return WithAdvice(
          WithLog(absl::FailedPreconditionError(absl::StrCat(
                      "the data disk ", device, " is not empty and does not mount as btrfs: ",
                      std::generic_category().message(error), "; nothing on it was changed")),
                  KernelLog()),
          "repair the disk's file with btrfs check, or give it up with vibe machine reset");
    }
    if (size < kSmallest) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the data disk ", device, " has ", size >> 20, " MiB; it needs ", kSmallest >> 20));
    }
    VIBE_RETURN_IF_ERROR(Format(mkfs, device));
    error = mount();
    if (error != 0) {
      return WithLog(ErrnoError(error, absl::StrCat("mount the new data disk ", device)),
                     KernelLog());
    }
    Say(absl::StrCat("data disk ", device, " was blank: formatted, ", size >> 20, " MiB"));
  }
  VIBE_RETURN_IF_ERROR(Grow(target, size));
  // Before anybody writes: containerd and the supervisor could not start on a full disk.
  if (const absl::StatusOr<bool> room = state::HasWorkingRoom(target); room.ok() && !*room) {
    const absl::StatusOr<bool> yielded = state::YieldReserve(target);
    Say(absl::StrCat(
        "the data disk is full; of its reserve ",
        yielded.ok() && *yielded ? "a part was given up for the start" : "nothing is left"));
  }
  return absl::OkStatus();
}

}  // namespace vibe::init
