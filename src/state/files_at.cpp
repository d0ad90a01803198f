#include "state/files_at.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "state/subvolume.h"

namespace vibe::state {
namespace {

constexpr int kMaxFolderDepth = 64;

absl::Status FileError(absl::string_view action, absl::string_view name) {
  const int error = errno;
  absl::Status status = ErrnoError(error, absl::StrCat(action, " ", name));
  return error == ENOSPC || error == EDQUOT ? WithReason(status, Reason::kDiskLow) : status;
}

absl::Status WriteAll(int fd, absl::string_view content, const std::string& name) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written < 0) {
      return FileError("write", name);
    }
    content.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status RemoveUpTo(int directory, const std::string& name, int depth) {
  const absl::StatusOr<bool> subvolume = IsSubvolume(directory, name);
  if (!subvolume.ok()) {
    return absl::IsNotFound(subvolume.status()) ? absl::OkStatus() : subvolume.status();
  }
  if (*subvolume) {
    return DestroySubvolume(directory, name);
  }
  if (::unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) {
    return absl::OkStatus();
  }
  if (errno != EISDIR) {
    return FileError("remove", name);
  }
  if (depth == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(name, " is a folder where none belongs; it was left alone"));
  }
  {
    VIBE_ASSIGN_OR_RETURN(const UniqueFd folder, OpenDirectoryAt(directory, name));
    VIBE_ASSIGN_OR_RETURN(const std::vector<std::string> entries, ListAt(folder.get()));
    for (const std::string& entry : entries) {
      VIBE_RETURN_IF_ERROR(RemoveUpTo(folder.get(), entry, depth - 1));
    }
  }
  if (::unlinkat(directory, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    return FileError("remove", name);
  }
  return absl::OkStatus();
}

}  // namespace

std::string TemporaryName(absl::string_view name) {
  return absl::StrCat(".", name, ".new");
}

absl::StatusOr<std::string> ReadFileAt(int directory, const std::string& name, uint64_t max_bytes) {
  const UniqueFd fd(
      ::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat inode = {};
  if (!fd.valid() || ::fstat(fd.get(), &inode) != 0) {
    return FileError("open", name);
  }
  if (!S_ISREG(inode.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(name, " is no regular file"));
  }
  if (static_cast<uint64_t>(inode.st_size) > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(name, " is larger than ", max_bytes, " bytes"));
  }
  std::string content(static_cast<size_t>(inode.st_size), '\0');
  size_t have = 0;
  while (have < content.size()) {
    const ssize_t count = ::read(fd.get(), content.data() + have, content.size() - have);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return FileError("read", name);
    }
    if (count == 0) {
      break;
    }
    have += static_cast<size_t>(count);
  }
  content.resize(have);
  return content;
}

absl::Status ReplaceFileAt(int directory, const std::string& name, absl::string_view content) {
  const std::string temporary = TemporaryName(name);
  const UniqueFd fd(::openat(directory, temporary.c_str(),
                             O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    return FileError("create", temporary);
  }
  absl::Status status = WriteAll(fd.get(), content, temporary);
  if (status.ok() && ::fsync(fd.get()) != 0) {
    status = FileError("sync", temporary);
  }
  if (status.ok() && ::renameat(directory, temporary.c_str(), directory, name.c_str()) != 0) {
    status = FileError("rename", temporary);
  }
  if (!status.ok()) {
    ::unlinkat(directory, temporary.c_str(), 0);
    return status;
  }
  return SyncAt(directory);
}

absl::StatusOr<UniqueFd> OpenDirectoryAt(int directory, const std::string& name) {
  UniqueFd fd(::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) {
    return FileError("open", name);
  }
  return fd;
}

DirectoryStream ReadDirectory(UniqueFd fd) {
  DirectoryStream stream(::fdopendir(fd.get()));
  if (stream != nullptr) {
    fd.release();
  }
  return stream;
}

UniqueFd OpenBeneath(int directory, const std::string& path, uint64_t flags) {
  open_how how = {};
  how.flags = flags | O_CLOEXEC | O_NOFOLLOW;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  return UniqueFd(static_cast<int>(
      ::syscall(SYS_openat2, directory, path.empty() ? "." : path.c_str(), &how, sizeof how)));
}

absl::StatusOr<UniqueFd> EnsureDirectoryAt(int directory, const std::string& name) {
  if (::mkdirat(directory, name.c_str(), 0700) == 0) {
    VIBE_RETURN_IF_ERROR(SyncAt(directory));
  } else if (errno != EEXIST) {
    return FileError("make the folder", name);
  }
  return OpenDirectoryAt(directory, name);
}

absl::Status MoveAt(int from_directory, const std::string& from, int to_directory,
                    const std::string& to) {
  if (::renameat2(from_directory, from.c_str(), to_directory, to.c_str(), RENAME_NOREPLACE) != 0) {
    return FileError(absl::StrCat("move ", from, " to"), to);
  }
  // The new name first: a crash between the two must not lose the file.
  VIBE_RETURN_IF_ERROR(SyncAt(to_directory));
  return SyncAt(from_directory);
}

absl::StatusOr<bool> ExistsAt(int directory, const std::string& name) {
  struct stat inode = {};
  if (::fstatat(directory, name.c_str(), &inode, AT_SYMLINK_NOFOLLOW) == 0) {
    return true;
  }
  if (errno == ENOENT) {
    return false;
  }
  return FileError("stat", name);
}

absl::Status SyncAt(int directory) {
  return ::fsync(directory) == 0 ? absl::OkStatus() : FileError("sync", "a folder");
}

absl::StatusOr<std::vector<std::string>> ListAt(int directory) {
  VIBE_ASSIGN_OR_RETURN(UniqueFd fd, OpenDirectoryAt(directory, "."));
  const DirectoryStream listing = ReadDirectory(std::move(fd));
  if (listing == nullptr) {
    return FileError("list", "a folder");
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(listing.get())) {  // NOLINT(concurrency-mt-unsafe)
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") {
      names.emplace_back(name);
    }
    errno = 0;
  }
  if (errno != 0) {
    return FileError("list", "a folder");
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status RemoveAt(int directory, const std::string& name) {
  return RemoveUpTo(directory, name, kMaxFolderDepth);
}

absl::Status RemoveFileAt(int directory, const std::string& name) {
  if (::unlinkat(directory, name.c_str(), 0) != 0) {
    return errno == ENOENT ? absl::OkStatus() : FileError("remove", name);
  }
  return SyncAt(directory);
}

}  // namespace vibe::state
