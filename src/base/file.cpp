#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe {
namespace {

constexpr char kUnfinished[] = ".unfinished";

absl::Status WriteAll(int fd, absl::string_view content, const std::string& name) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoError(errno, absl::StrCat("write ", name));
    }
    content.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::filesystem::path& path, uint64_t max_bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return ErrnoError(errno, absl::StrCat("open ", path.string()));
  }
  std::string content;
  char buffer[64 << 10];
  while (true) {
    const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoError(errno, absl::StrCat("read ", path.string()));
    }
    if (count == 0) {
      return content;
    }
    if (content.size() + static_cast<size_t>(count) > max_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path.string(), " is larger than ", max_bytes, " bytes"));
    }
    content.append(buffer, static_cast<size_t>(count));
  }
}

absl::Status ReplaceFile(const std::filesystem::path& path, absl::string_view content,
                         mode_t mode) {
  std::string temporary = absl::StrCat(path.string(), ".XXXXXX", kUnfinished);
  UniqueFd fd(::mkostemps(temporary.data(), sizeof kUnfinished - 1, O_CLOEXEC));
  if (!fd.valid()) {
    return ErrnoError(errno, absl::StrCat("create ", temporary));
  }
  absl::Status status = WriteAll(fd.get(), content, temporary);
  if (status.ok() && (::fchmod(fd.get(), mode) != 0 || ::fsync(fd.get()) != 0)) {
    status = ErrnoError(errno, absl::StrCat("sync ", temporary));
  }
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) {
    status = ErrnoError(errno, absl::StrCat("rename ", temporary));
  }
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return SyncDirectory(path.parent_path());
}

absl::Status RemoveUnfinished(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error);
  while (!error && entry != std::filesystem::directory_iterator()) {
    const std::filesystem::path path = entry->path();
    const bool regular = entry->symlink_status(error).type() == std::filesystem::file_type::regular;
    entry.increment(error);
    if (regular && absl::EndsWith(path.native(), kUnfinished) && ::unlink(path.c_str()) != 0 &&
        errno != ENOENT) {
      return ErrnoError(errno, absl::StrCat("remove ", path.string()));
    }
  }
  return error && error != std::errc::no_such_file_or_directory
             ? ErrnoError(error.value(), absl::StrCat("list ", directory.string()))
             : absl::OkStatus();
}

absl::Status MakeDirectories(const std::filesystem::path& path, mode_t mode) {
  if (path.empty() || ::mkdir(path.c_str(), mode) == 0) {
    return absl::OkStatus();
  }
  if (errno == EEXIST) {
    return std::filesystem::is_directory(path)
               ? absl::OkStatus()
               : absl::FailedPreconditionError(absl::StrCat(path.string(), " is not a directory"));
  }
  if (errno != ENOENT) {
    return ErrnoError(errno, absl::StrCat("mkdir ", path.string()));
  }
  VIBE_RETURN_IF_ERROR(MakeDirectories(path.parent_path(), mode));
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
    return ErrnoError(errno, absl::StrCat("mkdir ", path.string()));
  }
  return absl::OkStatus();
}

absl::Status SyncDirectory(const std::filesystem::path& path) {
  const std::filesystem::path directory = path.empty() ? "." : path;
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) {
    return ErrnoError(errno, absl::StrCat("sync ", directory.string()));
  }
  return absl::OkStatus();
}

absl::Status RemoveAll(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) {
    return ErrnoError(error.value(), absl::StrCat("remove ", path.string()));
  }
  return absl::OkStatus();
}

}  // namespace vibe
