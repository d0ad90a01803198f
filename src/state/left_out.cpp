#include "state/left_out.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/string_view.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "state/digest.h"
#include "state/files_at.h"

namespace vibe::state {
namespace {

constexpr size_t kNameCost = 64;  // of a name in memory, beside its bytes

bool IsLeftOut(mode_t mode) {
  return S_ISSOCK(mode) || S_ISFIFO(mode);
}

absl::Status Unlink(int directory, const char* name) {
  return ::unlinkat(directory, name, 0) == 0 || errno == ENOENT
             ? absl::OkStatus()
             : ErrnoError(errno, "remove a socket or fifo");
}

absl::Status RemoveOne(int clone, const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == path.npos ? "" : path.substr(0, slash);
  const std::string name = slash == path.npos ? path : path.substr(slash + 1);
  const UniqueFd parent = OpenBeneath(clone, folder, O_RDONLY | O_DIRECTORY);
  struct stat inode = {};
  if (!parent.valid() || ::fstatat(parent.get(), name.c_str(), &inode, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno == ENOENT ? absl::OkStatus() : ErrnoError(errno, "find a socket or fifo");
  }
  return IsLeftOut(inode.st_mode) ? Unlink(parent.get(), name.c_str()) : absl::OkStatus();
}

// Depth first. The way back up is "..", as in a digest's walk; each folder is listed once, so that
// only the names of folders are kept.
class Walk {
 public:
  explicit Walk(const std::stop_token& stop) : stop_(stop) {}

  absl::Status Run(int root) {
    VIBE_ASSIGN_OR_RETURN(current_, OpenDirectoryAt(root, "."));
    VIBE_RETURN_IF_ERROR(List());
    while (!levels_.empty()) {
      Level& level = levels_.back();
      if (level.folders.empty()) {
        levels_.pop_back();
        if (!levels_.empty()) {
          VIBE_RETURN_IF_ERROR(Up());
        }
        continue;
      }
      const std::string name = std::move(level.folders.back());
      level.folders.pop_back();
      memory_ -= name.size() + kNameCost;
      if (levels_.size() >= static_cast<size_t>(limits_.max_depth)) {
        continue;
      }
      VIBE_ASSIGN_OR_RETURN(current_, OpenDirectoryAt(current_.get(), name));
      VIBE_RETURN_IF_ERROR(List());
    }
    return absl::OkStatus();
  }

 private:
  struct Level {
    dev_t device = 0;
    ino_t inode = 0;
    std::vector<std::string> folders;  // yet to be entered
  };

  // Of `current_`.
  absl::Status List() {
    struct stat inode = {};
    if (::fstat(current_.get(), &inode) != 0) {
      return ErrnoError(errno, "stat a folder");
    }
    levels_.push_back({inode.st_dev, inode.st_ino, {}});
    VIBE_ASSIGN_OR_RETURN(UniqueFd fd, OpenDirectoryAt(current_.get(), "."));
    const DirectoryStream listing = ReadDirectory(std::move(fd));
    if (listing == nullptr) {
      return ErrnoError(errno, "list a folder");
    }
    errno = 0;
    while (const dirent* entry = ::readdir(listing.get())) {  // NOLINT(concurrency-mt-unsafe)
      if (stop_.stop_requested()) {
        return absl::CancelledError("stopped");
      }
      VIBE_RETURN_IF_ERROR(Entry(*entry));
      errno = 0;
    }
    return errno == 0 ? absl::OkStatus() : ErrnoError(errno, "list a folder");
  }

  absl::Status Entry(const dirent& entry) {
    const absl::string_view name = entry.d_name;
    if (name == "." || name == "..") {
      return absl::OkStatus();
    }
    if (entry.d_type == DT_SOCK || entry.d_type == DT_FIFO) {
      return Unlink(current_.get(), entry.d_name);
    }
    if (entry.d_type == DT_DIR && memory_ + name.size() + kNameCost <= limits_.name_memory) {
      memory_ += name.size() + kNameCost;
      levels_.back().folders.emplace_back(name);
    }
    return absl::OkStatus();
  }

  absl::Status Up() {
    VIBE_ASSIGN_OR_RETURN(current_, OpenDirectoryAt(current_.get(), ".."));
    struct stat inode = {};
    if (::fstat(current_.get(), &inode) != 0) {
      return ErrnoError(errno, "stat a folder");
    }
    return inode.st_dev == levels_.back().device && inode.st_ino == levels_.back().inode
               ? absl::OkStatus()
               : absl::AbortedError("a folder was moved while it was looked through");
  }

  const std::stop_token stop_;
  const DigestLimits limits_;
  UniqueFd current_;  // the directory of levels_.back()
  std::vector<Level> levels_;
  size_t memory_ = 0;  // of the names in all levels
};

}  // namespace

absl::Status RemoveLeftOut(int clone, const std::optional<std::vector<std::string>>& paths,
                           const std::stop_token& stop) {
  if (!paths.has_value()) {
    return Walk(stop).Run(clone);
  }
  for (const std::string& path : *paths) {
    VIBE_RETURN_IF_ERROR(RemoveOne(clone, path));
  }
  return absl::OkStatus();
}

}  // namespace vibe::state
