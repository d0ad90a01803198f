#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <deque>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "state/files_at.h"
#include "state/sqlite_files.h"

namespace vibe::state {
namespace {

// https://www.sqlite.org/fileformat.html, "The Database Header"; the NUL belongs to it.
constexpr absl::string_view kHeader("SQLite format 3\0", 16);
constexpr off_t kSmallestDatabase = 512;  // one page of the smallest size

struct Folder {
  std::string path;  // from the volume's root; empty for itself
  int depth = 0;
};

// The file of one entry if it is a database. What it is, is asked before it is opened, of the same
// inode: opening a fifo or a device that was put in a file's place can do things.
bool IsDatabase(int directory, const char* name, struct stat& inode) {
  const UniqueFd handle(::openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!handle.valid() || ::fstat(handle.get(), &inode) != 0 || !S_ISREG(inode.st_mode) ||
      inode.st_size < kSmallestDatabase) {
    return false;
  }
  const std::string path = absl::StrCat("/proc/self/fd/", handle.get());
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_NOATIME | O_CLOEXEC));
  char header[kHeader.size()];
  return file.valid() && ::pread(file.get(), header, sizeof header, 0) == sizeof header &&
         std::memcmp(header, kHeader.data(), sizeof header) == 0;
}

class Scan {
 public:
  Scan(int volume, const SqliteScanLimits& limits)
      : volume_(volume), limits_(limits), deadline_(absl::Now() + limits.time) {}

  absl::StatusOr<SqliteScan> Run() {
    folders_.push_back({});
    while (!folders_.empty() && scan_.complete) {
      const Folder folder = std::move(folders_.front());
      folders_.pop_front();
      VIBE_RETURN_IF_ERROR(Look(folder));
    }
    scan_.complete = scan_.complete && !passed_by_;
    std::sort(scan_.files.begin(), scan_.files.end(),
              [](const SqliteFile& a, const SqliteFile& b) { return a.path < b.path; });
    return std::move(scan_);
  }

 private:
  absl::Status Look(const Folder& folder) {
    UniqueFd fd = OpenBeneath(volume_, folder.path, O_RDONLY | O_DIRECTORY | O_NOATIME);
    if (!fd.valid()) {
      return folder.path.empty() ? ErrnoError(errno, "open the volume") : absl::OkStatus();
    }
    const int directory = fd.get();
    const DirectoryStream listing = ReadDirectory(std::move(fd));
    if (listing == nullptr) {
      return ErrnoError(errno, "list the volume");
    }
    while (const dirent* entry = ::readdir(listing.get())) {  // NOLINT(concurrency-mt-unsafe)
      const absl::string_view name = entry->d_name;
      if (name == "." || name == "..") {
        continue;
      }
      if (++entries_ > limits_.max_entries || scan_.files.size() >= limits_.max_files ||
          ((entries_ & 63) == 0 && absl::Now() > deadline_)) {
        scan_.complete = false;
        break;
      }
      std::string path =
          folder.path.empty() ? std::string(name) : absl::StrCat(folder.path, "/", name);
      if (entry->d_type == DT_DIR) {
        if (folder.depth + 1 < limits_.max_depth && path.size() < PATH_MAX) {
          folders_.push_back({std::move(path), folder.depth + 1});
        } else {
          passed_by_ = true;
        }
      } else if (entry->d_type == DT_REG) {
        File(directory, entry->d_name, std::move(path));
      }
    }
    return absl::OkStatus();
  }

  void File(int directory, const char* name, std::string path) {
    struct stat inode = {};
    if (!IsDatabase(directory, name, inode)) {
      return;
    }
    SqliteFile file{.path = std::move(path),
                    .size = static_cast<uint64_t>(inode.st_size),
                    .uid = inode.st_uid,
                    .gid = inode.st_gid};
    const std::string wal = absl::StrCat(name, "-wal");
    if (::fstatat(directory, wal.c_str(), &inode, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(inode.st_mode)) {
      file.wal_size = static_cast<uint64_t>(inode.st_size);
    }
    scan_.files.push_back(std::move(file));
  }

  const int volume_;
  const SqliteScanLimits limits_;
  const absl::Time deadline_;
  std::deque<Folder> folders_;  // yet to be looked at, nearest to the root first
  uint64_t entries_ = 0;
  bool passed_by_ = false;  // a folder, for its depth
  SqliteScan scan_;
};

}  // namespace

absl::StatusOr<SqliteScan> FindSqliteFiles(int volume, const SqliteScanLimits& limits) {
  return Scan(volume, limits).Run();
}

}  // namespace vibe::state
