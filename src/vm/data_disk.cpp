#include "vm/data_disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::vm {
absl::Status PrepareDataDisk(const std::filesystem::path& path, uint64_t bytes) {
  VIBE_RETURN_IF_ERROR(MakeDirectories(path.parent_path(), 0700));
  struct stat info {};
  // Before it is opened: that would wait for a fifo's other end, or do what a device does then.
  if (::lstat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return WithAdvice(absl::FailedPreconditionError(
                          absl::StrCat("the data disk ", path.string(), " is not a regular file")),
                      "move it away; a new data disk is made at the next start");
  }
  // O_NOFOLLOW: a link that comes meanwhile must not make us grow a file of somebody else.
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid() || ::fstat(file.get(), &info) != 0) {
    return ErrnoError(errno, absl::StrCat("open the data disk ", path.string()));
  }
  if (static_cast<uint64_t>(info.st_size) >= bytes) {
    return absl::OkStatus();
  }
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
    const int error = errno;
    absl::Status status = ErrnoError(error, absl::StrCat("make the data disk ", path.string()));
    return error == EFBIG ? WithAdvice(std::move(status),
                                       "the file system of VIBE_HOME cannot hold a file of "
                                       "that size; set VIBE_HOME to a folder on another")
                          : status;
  }
  // A disk that a power cut takes back would be formatted again, with everything gone.
  if (::fsync(file.get()) != 0) {
    return ErrnoError(errno, absl::StrCat("sync the data disk ", path.string()));
  }
  return SyncDirectory(path.parent_path());
}

absl::StatusOr<DataDiskUse> UseOfDataDisk(const std::filesystem::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    return errno == ENOENT
               ? absl::NotFoundError(absl::StrCat("there is no data disk ", path.string()))
               : ErrnoError(errno, absl::StrCat("look at the data disk ", path.string()));
  }
  // st_blocks is in units of 512 bytes on every system, whatever st_blksize says.
  return DataDiskUse{.bytes = static_cast<uint64_t>(info.st_size),
                     .allocated = static_cast<uint64_t>(info.st_blocks) * 512};
}

}  // namespace vibe::vm
