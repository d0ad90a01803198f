#include "state/digest.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "state/digest_encoder.h"
#include "state/file_content.h"
#include "state/files_at.h"

namespace vibe::state {
namespace {

constexpr char kTreeDomain[] = "vibe-tree-1\n";
constexpr char kStateDomain[] = "vibe-state-1\n";
constexpr size_t kNameCost = 64;           // of a name in memory, beside its bytes
constexpr size_t kLeastNames = 16 << 10;   // bytes of names that a level takes at once
constexpr ino_t kEmptySubvolumeInode = 2;  // what a btrfs snapshot has where a subvolume was

absl::StatusOr<UniqueFd> OpenDirectory(int parent, const char* name) {
  UniqueFd fd(::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) {
    return ErrnoError(errno, "open");
  }
  return fd;
}

// Walks one tree, depth first, names in byte order. The way back up is "..", not a descriptor for
// each level: a tree may be deeper than a process may have files.
class TreeWalk {
 public:
  // With `split_volumes` set, folders in "volumes" at the root are collected there instead of
  // being entered.
  TreeWalk(const std::stop_token& stop, const DigestLimits& limits,
           std::vector<std::string>* split_volumes)
      : stop_(stop), limits_(limits), split_volumes_(split_volumes), encoder_(kTreeDomain) {}

  absl::StatusOr<TreeDigest> Run(int root) {
    absl::Status status = Walk(root);
    if (!status.ok()) {
      const bool unreadable = status.code() == absl::StatusCode::kInternal ||
                              status.code() == absl::StatusCode::kUnknown;
      return Annotate(unreadable ? absl::DataLossError(status.message()) : status,
                      absl::StrCat("digest of ", Path()));
    }
    result_.digest = encoder_.FinishDigest();
    return result_;
  }

 private:
  struct Level {
    std::string name;
    dev_t device = 0;
    ino_t inode = 0;
    std::vector<std::string> entries;  // a part of the directory's, in order
    size_t next = 0;
    size_t memory = 0;  // of the entries
    std::string last;   // of the entries; with `more` set, others come after it
    bool more = false;
  };

  absl::Status Walk(int root) {
    VIBE_ASSIGN_OR_RETURN(current_, OpenDirectory(root, "."));
    struct stat inode = {};
    if (::fstat(current_.get(), &inode) != 0) {
      return ErrnoError(errno, "stat");
    }
    device_ = inode.st_dev;
    VIBE_RETURN_IF_ERROR(Common('d', "", inode, "."));
    VIBE_RETURN_IF_ERROR(Enter("", inode));
    while (!levels_.empty()) {
      if (levels_.back().next == levels_.back().entries.size()) {
        VIBE_RETURN_IF_ERROR(levels_.back().more ? List(levels_.back()) : Leave());
        continue;
      }
      if (stop_.stop_requested()) {
        return absl::CancelledError("stopped");
      }
      entry_ = std::move(levels_.back().entries[levels_.back().next++]);
      VIBE_RETURN_IF_ERROR(Entry());
      entry_.clear();
    }
    return absl::OkStatus();
  }

  // `current_` is the directory.
  absl::Status Enter(std::string name, const struct stat& inode) {
    Level level;
    level.name = std::move(name);
    level.device = inode.st_dev;
    level.inode = inode.st_ino;
    levels_.push_back(std::move(level));
    if (levels_.size() > static_cast<size_t>(limits_.max_depth)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("folders are nested deeper than ", limits_.max_depth));
    }
    return List(levels_.back());
  }

  // Takes the level's next names, as many as there is memory for. `current_` is its directory.
  absl::Status List(Level& level) {
    VIBE_ASSIGN_OR_RETURN(UniqueFd fd, OpenDirectory(current_.get(), "."));
    const DirectoryStream listing = ReadDirectory(std::move(fd));
    if (listing == nullptr) {
      return ErrnoError(errno, "list");
    }
    Drop(level);
    const size_t room =
        std::max(kLeastNames, limits_.name_memory - std::min(limits_.name_memory, memory_));
    std::vector<std::string>& names = level.entries;  // a heap: the greatest is in front
    std::string end;                                  // the smallest that there was no room for
    uint64_t count = result_.entries;
    errno = 0;
    while (const dirent* entry = ::readdir(listing.get())) {  // NOLINT(concurrency-mt-unsafe)
      const absl::string_view name = entry->d_name;
      if (name != "." && name != ".." && name > level.last && (end.empty() || name < end)) {
        if (++count > limits_.max_entries) {
          return TooMany();
        }
        names.emplace_back(name);
        std::push_heap(names.begin(), names.end());
        level.memory += name.size() + kNameCost;
        while (level.memory > room && names.size() > 1) {
          std::pop_heap(names.begin(), names.end());
          end = std::move(names.back());
          names.pop_back();
          level.memory -= end.size() + kNameCost;
        }
      }
      errno = 0;
    }
    if (errno != 0) {
      return ErrnoError(errno, "list");
    }
    std::sort_heap(names.begin(), names.end());
    memory_ += level.memory;
    level.more = !end.empty();
    if (level.more) {
      level.last = names.back();
    }
    return absl::OkStatus();
  }

  void Drop(Level& level) {
    memory_ -= level.memory;
    level.memory = 0;
    level.next = 0;
    level.entries.clear();
  }

  absl::Status TooMany() const {
    return absl::ResourceExhaustedError(
        absl::StrCat("there are more than ", limits_.max_entries, " files"));
  }

  absl::Status Leave() {
    encoder_.Byte('u');
    Drop(levels_.back());
    levels_.pop_back();
    if (levels_.empty()) {
      return absl::OkStatus();
    }
    VIBE_ASSIGN_OR_RETURN(current_, OpenDirectory(current_.get(), ".."));
    struct stat inode = {};
    if (::fstat(current_.get(), &inode) != 0) {
      return ErrnoError(errno, "stat");
    }
    if (inode.st_dev != levels_.back().device || inode.st_ino != levels_.back().inode) {
      return absl::AbortedError("a folder was moved while it was read");
    }
    return absl::OkStatus();
  }

  absl::Status Entry() {
    struct stat inode = {};
    if (::fstatat(current_.get(), entry_.c_str(), &inode, AT_SYMLINK_NOFOLLOW) != 0) {
      return ErrnoError(errno, "stat");
    }
    if (S_ISSOCK(inode.st_mode) || S_ISFIFO(inode.st_mode)) {
      Omit();
      return absl::OkStatus();
    }
    const bool directory = S_ISDIR(inode.st_mode);
    if (directory && split_volumes_ != nullptr && levels_.size() == 2 &&
        levels_.back().name == "volumes") {
      split_volumes_->push_back(entry_);
      return absl::OkStatus();
    }
    const uint64_t number = ++result_.entries;
    if (result_.entries > limits_.max_entries) {
      return TooMany();
    }
    if (!directory && inode.st_nlink > 1) {
      const auto [first, inserted] = first_links_.emplace(inode.st_ino, number);
      if (!inserted) {
        encoder_.Byte('h');
        encoder_.Bytes(entry_);
        encoder_.U64(first->second);
        return absl::OkStatus();
      }
      if (first_links_.size() > limits_.max_linked) {
        return absl::ResourceExhaustedError(
            absl::StrCat("more than ", limits_.max_linked, " files have several names"));
      }
    }
    return directory ? Directory(inode) : File(inode);
  }

  void Omit() {
    ++result_.omitted;
    if (!result_.omitted_paths.has_value()) {
      return;
    }
    std::string path = RawPath();
    omitted_bytes_ += path.size() + kNameCost;
    if (omitted_bytes_ > limits_.max_omitted_bytes || path.size() >= PATH_MAX) {
      result_.omitted_paths.reset();
      return;
    }
    result_.omitted_paths->push_back(std::move(path));
  }

  absl::Status Directory(const struct stat& inode) {
    VIBE_RETURN_IF_ERROR(Common('d', entry_, inode, entry_));
    if (inode.st_ino == kEmptySubvolumeInode || inode.st_dev != device_) {
      ++result_.nested_subvolumes;
      encoder_.Byte('u');
      return absl::OkStatus();
    }
    VIBE_ASSIGN_OR_RETURN(current_, OpenDirectory(current_.get(), entry_.c_str()));
    return Enter(std::move(entry_), inode);
  }

  absl::Status File(const struct stat& inode) {
    switch (inode.st_mode & S_IFMT) {
      case S_IFREG:
        VIBE_RETURN_IF_ERROR(Common('f', entry_, inode, entry_));
        return Content(inode);
      case S_IFLNK: {
        VIBE_RETURN_IF_ERROR(Common('l', entry_, inode, entry_));
        char target[PATH_MAX];
        const ssize_t length = ::readlinkat(current_.get(), entry_.c_str(), target, sizeof target);
        if (length < 0) {
          return ErrnoError(errno, "read the symlink");
        }
        encoder_.Bytes({target, static_cast<size_t>(length)});
        return absl::OkStatus();
      }
      case S_IFCHR:
      case S_IFBLK:
        VIBE_RETURN_IF_ERROR(Common(S_ISCHR(inode.st_mode) ? 'c' : 'b', entry_, inode, entry_));
        encoder_.U32(major(inode.st_rdev));
        encoder_.U32(minor(inode.st_rdev));
        return absl::OkStatus();
      default:
        return absl::DataLossError("it is of no known type");
    }
  }

  absl::Status Content(const struct stat& inode) {
    const auto size = static_cast<uint64_t>(inode.st_size);
    result_.size_bytes += size;
    encoder_.U64(size);
    if (size == 0) {
      return absl::OkStatus();
    }
    UniqueFd fd(
        ::openat(current_.get(), entry_.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd.valid()) {
      return ErrnoError(errno, "open");
    }
    VIBE_ASSIGN_OR_RETURN(const std::string content, DigestContent(fd.get(), size, stop_));
    encoder_.Raw(content);
    return absl::OkStatus();
  }

  // What every type has. `name` goes into the digest, `entry` is where it is in `current_`.
  absl::Status Common(char type, absl::string_view name, const struct stat& inode,
                      const std::string& entry) {
    encoder_.Byte(type);
    encoder_.Bytes(name);
    encoder_.U32(inode.st_mode & 07777);
    encoder_.U32(inode.st_uid);
    encoder_.U32(inode.st_gid);
    return Xattrs(entry);
  }

  absl::Status Xattrs(const std::string& entry) {
    // There is no *at call for the attributes of a symlink: by way of /proc, its last step not
    // followed.
    const std::string path = absl::StrCat("/proc/self/fd/", current_.get(), "/", entry);
    std::vector<std::string> names;
    // Most files have none: no buffer is filled for those.
    const ssize_t list_size = ::llistxattr(path.c_str(), nullptr, 0);
    if (list_size < 0 && errno != ENOTSUP) {
      return ErrnoError(errno, "list the extended attributes");
    }
    if (list_size > 0) {
      std::string list(static_cast<size_t>(list_size), '\0');
      const ssize_t got = ::llistxattr(path.c_str(), list.data(), list.size());
      if (got < 0) {
        return ErrnoError(errno, "list the extended attributes");
      }
      list.resize(static_cast<size_t>(got));
      names = absl::StrSplit(list, '\0', absl::SkipEmpty());
      std::sort(names.begin(), names.end());
    }
    encoder_.U32(static_cast<uint32_t>(names.size()));
    uint64_t bytes = 0;
    for (const std::string& name : names) {
      const ssize_t size = ::lgetxattr(path.c_str(), name.c_str(), nullptr, 0);
      if (size < 0) {
        return ErrnoError(errno, absl::StrCat("read the extended attribute ", name));
      }
      bytes += name.size() + static_cast<uint64_t>(size);
      if (bytes > limits_.max_xattr_bytes) {
        return absl::ResourceExhaustedError(absl::StrCat("the extended attributes are longer than ",
                                                         limits_.max_xattr_bytes, " bytes"));
      }
      std::string value(static_cast<size_t>(size), '\0');
      if (size > 0 && ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size()) != size) {
        return absl::AbortedError("an extended attribute changed while it was read");
      }
      encoder_.Bytes(name);
      encoder_.Bytes(value);
    }
    return absl::OkStatus();
  }

  std::string RawPath() const {
    std::vector<std::string> names;
    for (const Level& level : levels_) {
      if (!level.name.empty()) {
        names.push_back(level.name);
      }
    }
    names.push_back(entry_);
    return absl::StrJoin(names, "/");
  }

  std::string Path() const {
    std::string path = absl::CHexEscape(RawPath());
    return path.empty() ? "the root folder" : path.substr(0, 1000);
  }

  const std::stop_token stop_;
  const DigestLimits limits_;
  std::vector<std::string>* const split_volumes_;
  DigestEncoder encoder_;
  TreeDigest result_;
  dev_t device_ = 0;
  UniqueFd current_;  // the directory of levels_.back()
  std::vector<Level> levels_;
  size_t memory_ = 0;  // of all levels' entries
  size_t omitted_bytes_ = 0;
  std::string entry_;
  std::unordered_map<ino_t, uint64_t> first_links_;  // inode with several links → its first entry
};

}  // namespace

absl::StatusOr<TreeDigest> DigestTree(int directory, std::stop_token stop,
                                      const DigestLimits& limits) {
  return TreeWalk(stop, limits, nullptr).Run(directory);
}

absl::StatusOr<StateDigest> DigestState(int state, std::stop_token stop,
                                        const DigestLimits& limits) {
  StateDigest result;
  std::vector<std::string> names;
  VIBE_ASSIGN_OR_RETURN(result.rest, TreeWalk(stop, limits, &names).Run(state));
  DigestEncoder encoder(kStateDomain);
  encoder.Bytes(result.rest.digest);
  encoder.U64(names.size());
  if (!names.empty()) {
    VIBE_ASSIGN_OR_RETURN(const UniqueFd volumes, OpenDirectory(state, "volumes"));
    for (const std::string& name : names) {
      absl::StatusOr<UniqueFd> volume = OpenDirectory(volumes.get(), name.c_str());
      if (!volume.ok()) {
        return Annotate(volume.status(), absl::StrCat("volume ", absl::CHexEscape(name)));
      }
      absl::StatusOr<TreeDigest> digest = DigestTree(volume->get(), stop, limits);
      if (!digest.ok()) {
        return Annotate(digest.status(), absl::StrCat("volume ", absl::CHexEscape(name)));
      }
      encoder.Bytes(name);
      encoder.Bytes(digest->digest);
      result.volumes.emplace(name, *std::move(digest));
    }
  }
  result.digest = encoder.FinishDigest();
  return result;
}

}  // namespace vibe::state
