#include "btrfs_image.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/random.h"
#include "base/subprocess.h"

namespace vibe::state {

namespace fs = std::filesystem;

void EnterOwnMountNamespace() {
  if (::unshare(CLONE_NEWNS) != 0 ||
      ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    throw std::runtime_error("these tests need root");
  }
}

void RunOrThrow(const std::vector<std::string>& args) {
  const absl::StatusOr<SubprocessResult> result = RunSubprocess({.args = args});
  if (!result.ok() || result->exit_code != 0) {
    throw std::runtime_error(absl::StrCat(absl::StrJoin(args, " "), ": ",
                                          result.ok() ? result->err : result.status().ToString()));
  }
}

BtrfsImage::BtrfsImage(uint64_t bytes, fs::path parent) {
  if (parent.empty()) {
    // In memory where there is room: what is tested is order, not the disk.
    parent = fs::is_directory("/dev/shm") ? "/dev/shm" : fs::temp_directory_path();
  }
  folder_ = parent / ("vibe-btrfs-" + RandomHex(8));
  image_ = folder_ / "image";
  root_ = folder_ / "mount";
  fs::create_directories(root_);
  std::ofstream(image_).flush();
  fs::resize_file(image_, bytes);
  RunOrThrow({"mkfs.btrfs", "-q", image_.string()});
  Mount();
}

BtrfsImage::~BtrfsImage() {
  Unmount();
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void BtrfsImage::Mount() {
  // No commit of its own accord, so that nothing is on the disk by luck.
  RunOrThrow({"mount", "-o", "loop,noatime,commit=300", image_.string(), root_.string()});
  fd_.reset(::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

void BtrfsImage::Unmount() {
  fd_.reset();
  ::umount2(root_.c_str(), MNT_DETACH);
}

void BtrfsImage::CutPower() {
  const fs::path copy = folder_ / ("image-" + RandomHex(4));
  RunOrThrow({"cp", "--sparse=always", image_.string(), copy.string()});
  ContinueFrom(copy);
}

fs::path BtrfsImage::CopyNow() const {
  fs::path copy = folder_ / ("image-" + RandomHex(4));
  const UniqueFd from(::open(image_.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd to(::open(copy.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  // One step for the file system: a write to the disk is in it as a whole or not at all.
  if (::ioctl(to.get(), FICLONE, from.get()) != 0) {
    throw std::runtime_error("the image's file system has no reflinks");
  }
  return copy;
}

void BtrfsImage::ContinueFrom(const fs::path& copy) {
  // btrfs refuses two mounted file systems of one identity.
  fd_.reset();
  if (::umount(root_.c_str()) != 0) {
    throw std::runtime_error("the file system is still in use");
  }
  fs::remove(image_);
  image_ = copy;
  Mount();
}

}  // namespace vibe::state
