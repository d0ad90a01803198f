#include "state/subvolume.h"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"

namespace vibe::state {
namespace {

constexpr uint64_t kMaxNested = 100'000;
constexpr uint64_t kMaxSpaceInfos = 64;  // block group kinds; btrfs has about four

absl::Status CheckName(absl::string_view name) {
  if (name.empty() || name.size() > BTRFS_VOL_NAME_MAX || name == "." || name == ".." ||
      name.find('/') != name.npos || name.find('\0') != name.npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", absl::CHexEscape(name), "\" cannot be the name of a subvolume"));
  }
  return absl::OkStatus();
}

absl::Status IoctlError(absl::string_view action, absl::string_view name) {
  const int error = errno;
  absl::Status status = ErrnoError(error, absl::StrCat(action, " ", absl::CHexEscape(name)));
  return error == ENOSPC || error == EDQUOT ? WithReason(status, Reason::kDiskLow) : status;
}

absl::StatusOr<bool> IsSubvolumeRoot(int fd) {
  struct statfs filesystem = {};
  struct stat inode = {};
  if (::fstatfs(fd, &filesystem) != 0 || ::fstat(fd, &inode) != 0) {
    return ErrnoError(errno, "stat a subvolume");
  }
  return filesystem.f_type == BTRFS_SUPER_MAGIC && S_ISDIR(inode.st_mode) &&
         inode.st_ino == BTRFS_FIRST_FREE_OBJECTID;
}

std::string UuidText(const uint8_t (&uuid)[BTRFS_UUID_SIZE]) {
  static constexpr uint8_t kNone[BTRFS_UUID_SIZE] = {};
  if (std::memcmp(uuid, kNone, sizeof uuid) == 0) {
    return "";
  }
  const std::string hex = absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(uuid), BTRFS_UUID_SIZE));
  return absl::StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-",
                      hex.substr(16, 4), "-", hex.substr(20));
}

template <size_t kSize>
void CopyName(absl::string_view name, char (&field)[kSize]) {
  static_assert(kSize > BTRFS_VOL_NAME_MAX);
  std::memcpy(field, name.data(), name.size());
  field[name.size()] = '\0';
}

// The subvolumes directly in subvolume `parent`, from the tree of tree roots: no path is walked,
// and those that an app may have hidden or renamed are found too.
absl::StatusOr<std::vector<NestedSubvolume>> NestedIn(int fd, uint64_t parent, size_t max) {
  std::vector<NestedSubvolume> nested;
  btrfs_ioctl_search_args search = {};
  btrfs_ioctl_search_key& key = search.key;
  key.tree_id = BTRFS_ROOT_TREE_OBJECTID;
  key.min_objectid = key.max_objectid = parent;
  key.min_type = key.max_type = BTRFS_ROOT_REF_KEY;
  key.max_offset = UINT64_MAX;
  key.max_transid = UINT64_MAX;
  while (nested.size() < max) {
    key.nr_items = 4096;
    if (::ioctl(fd, BTRFS_IOC_TREE_SEARCH, &search) != 0) {
      return ErrnoError(errno, "list nested subvolumes");
    }
    if (key.nr_items == 0) {
      return nested;
    }
    const char* item = search.buf;
    for (uint32_t i = 0; i < key.nr_items && nested.size() < max; ++i) {
      btrfs_ioctl_search_header header;
      std::memcpy(&header, item, sizeof header);
      item += sizeof header;
      btrfs_root_ref reference;
      if (header.len < sizeof reference) {
        return absl::DataLossError("a subvolume's reference is too short");
      }
      std::memcpy(&reference, item, sizeof reference);
      const size_t name_length =
          std::min<size_t>(le16toh(reference.name_len), header.len - sizeof reference);
      nested.push_back({header.offset, std::string(item + sizeof reference, name_length)});
      item += header.len;
      if (header.offset == UINT64_MAX) {
        return nested;
      }
      key.min_offset = header.offset + 1;
    }
  }
  return nested;
}

absl::Status DestroyById(int fd, const NestedSubvolume& subvolume) {
  btrfs_ioctl_vol_args_v2 args = {};
  args.flags = BTRFS_SUBVOL_SPEC_BY_ID;
  args.subvolid = subvolume.id;
  if (::ioctl(fd, BTRFS_IOC_SNAP_DESTROY_V2, &args) != 0) {
    return IoctlError("remove the nested subvolume", subvolume.name);
  }
  return absl::OkStatus();
}

// Everything nested below subvolume `id`, parents before children.
absl::StatusOr<std::vector<NestedSubvolume>> AllNested(int fd, uint64_t id) {
  std::vector<NestedSubvolume> found;
  uint64_t parent = id;
  for (size_t next = 0;; ++next) {
    VIBE_ASSIGN_OR_RETURN(std::vector<NestedSubvolume> children,
                          NestedIn(fd, parent, kMaxNested + 1 - found.size()));
    found.insert(found.end(), children.begin(), children.end());
    if (found.size() > kMaxNested) {
      return absl::FailedPreconditionError(
          absl::StrCat("more than ", kMaxNested, " subvolumes are nested in one"));
    }
    if (next == found.size()) {
      return found;
    }
    parent = found[next].id;
  }
}

// What was written to files and is not on the disk yet, without a place there or with one that is
// being written: statfs takes both for free, half a minute long. 0 where the kernel does not tell.
uint64_t PromisedBytes(int fd) {
  btrfs_ioctl_fs_info_args info = {};
  if (::ioctl(fd, BTRFS_IOC_FS_INFO, &info) != 0) {
    return 0;
  }
  const std::string data = absl::StrCat("/sys/fs/btrfs/", UuidText(info.fsid), "/allocation/data/");
  uint64_t promised = 0;
  for (const char* kind : {"bytes_may_use", "bytes_reserved"}) {
    const absl::StatusOr<std::string> text = ReadFile(data + kind, 4096);
    uint64_t bytes = 0;
    promised += text.ok() && absl::SimpleAtoi(*text, &bytes) ? bytes : 0;
  }
  return promised;
}

}  // namespace

absl::StatusOr<bool> IsSubvolume(int directory, absl::string_view name) {
  VIBE_RETURN_IF_ERROR(CheckName(name));
  UniqueFd fd(::openat(directory, std::string(name).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) {
    return IoctlError("open", name);
  }
  return IsSubvolumeRoot(fd.get());
}

absl::StatusOr<UniqueFd> OpenSubvolume(int directory, absl::string_view name) {
  VIBE_RETURN_IF_ERROR(CheckName(name));
  UniqueFd fd(::openat(directory, std::string(name).c_str(),
                       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid() && errno != ENOTDIR && errno != ELOOP) {
    return IoctlError("open the subvolume", name);
  }
  bool is_subvolume = false;
  if (fd.valid()) {
    VIBE_ASSIGN_OR_RETURN(is_subvolume, IsSubvolumeRoot(fd.get()));
  }
  if (!is_subvolume) {
    return absl::FailedPreconditionError(
        absl::StrCat(absl::CHexEscape(name), " is no btrfs subvolume"));
  }
  return fd;
}

absl::Status CreateSubvolume(int directory, absl::string_view name) {
  VIBE_RETURN_IF_ERROR(CheckName(name));
  btrfs_ioctl_vol_args args = {};
  CopyName(name, args.name);
  if (::ioctl(directory, BTRFS_IOC_SUBVOL_CREATE, &args) != 0) {
    return IoctlError("make the subvolume", name);
  }
  return absl::OkStatus();
}

absl::Status SnapshotSubvolume(int source, int directory, absl::string_view name,
                               SnapshotMode mode) {
  VIBE_RETURN_IF_ERROR(CheckName(name));
  btrfs_ioctl_vol_args_v2 args = {};
  args.fd = source;
  args.flags = mode == SnapshotMode::kReadOnly ? BTRFS_SUBVOL_RDONLY : 0;
  CopyName(name, args.name);
  // The kernel writes out the source's dirty pages first, and commits the transaction.
  if (::ioctl(directory, BTRFS_IOC_SNAP_CREATE_V2, &args) != 0) {
    return IoctlError("make the snapshot", name);
  }
  return absl::OkStatus();
}

absl::Status SetReadOnly(int subvolume, bool read_only) {
  uint64_t flags = 0;
  if (::ioctl(subvolume, BTRFS_IOC_SUBVOL_GETFLAGS, &flags) != 0) {
    return ErrnoError(errno, "read a subvolume's flags");
  }
  flags = read_only ? flags | BTRFS_SUBVOL_RDONLY : flags & ~uint64_t{BTRFS_SUBVOL_RDONLY};
  if (::ioctl(subvolume, BTRFS_IOC_SUBVOL_SETFLAGS, &flags) != 0) {
    return ErrnoError(errno, "set a subvolume's flags");
  }
  return absl::OkStatus();
}

absl::Status DestroySubvolume(int directory, absl::string_view name) {
  VIBE_ASSIGN_OR_RETURN(UniqueFd subvolume, OpenSubvolume(directory, name));
  VIBE_ASSIGN_OR_RETURN(const SubvolumeInfo info, GetSubvolumeInfo(subvolume.get()));
  // Names in `directory` belong to the caller, who lets nobody exchange them meanwhile.
  VIBE_ASSIGN_OR_RETURN(std::vector<NestedSubvolume> nested, AllNested(subvolume.get(), info.id));
  if (!nested.empty() && info.read_only) {
    // The kernel takes no name out of a read-only subvolume.
    VIBE_RETURN_IF_ERROR(SetReadOnly(subvolume.get(), false));
  }
  for (auto child = nested.rbegin(); child != nested.rend(); ++child) {
    VIBE_RETURN_IF_ERROR(DestroyById(subvolume.get(), *child));
  }
  subvolume.reset();
  btrfs_ioctl_vol_args args = {};
  CopyName(name, args.name);
  if (::ioctl(directory, BTRFS_IOC_SNAP_DESTROY, &args) != 0) {
    return IoctlError("remove the subvolume", name);
  }
  return absl::OkStatus();
}

absl::StatusOr<SubvolumeInfo> GetSubvolumeInfo(int subvolume) {
  btrfs_ioctl_get_subvol_info_args args = {};
  // Linux lets a search's "1: not this very key" through as the call's result, now and then.
  if (::ioctl(subvolume, BTRFS_IOC_GET_SUBVOL_INFO, &args) < 0) {
    return ErrnoError(errno, "read what a subvolume is");
  }
  return SubvolumeInfo{.id = args.treeid,
                       .uuid = UuidText(args.uuid),
                       .parent_uuid = UuidText(args.parent_uuid),
                       .received_uuid = UuidText(args.received_uuid),
                       .generation = args.generation,
                       .change_generation = args.ctransid,
                       .origin_generation = args.otransid,
                       .read_only = (args.flags & BTRFS_ROOT_SUBVOL_RDONLY) != 0};
}

absl::StatusOr<std::vector<NestedSubvolume>> ListNestedSubvolumes(int subvolume, size_t max) {
  VIBE_ASSIGN_OR_RETURN(const SubvolumeInfo info, GetSubvolumeInfo(subvolume));
  return NestedIn(subvolume, info.id, max);
}

absl::Status CommitFilesystem(int fd) {
  if (::syncfs(fd) != 0) {
    const int error = errno;
    const absl::Status status = ErrnoError(error, "write the file system's changes to the disk");
    return error == ENOSPC || error == EDQUOT ? WithReason(status, Reason::kDiskLow) : status;
  }
  return absl::OkStatus();
}

absl::Status CommitAndFree(int fd) {
  return ::ioctl(fd, BTRFS_IOC_SYNC, nullptr) == 0 ? absl::OkStatus()
                                                   : ErrnoError(errno, "free removed subvolumes");
}

absl::Status ExchangeNames(int directory_a, absl::string_view a, int directory_b,
                           absl::string_view b) {
  VIBE_RETURN_IF_ERROR(CheckName(a));
  VIBE_RETURN_IF_ERROR(CheckName(b));
  if (::renameat2(directory_a, std::string(a).c_str(), directory_b, std::string(b).c_str(),
                  RENAME_EXCHANGE) != 0) {
    return IoctlError(absl::StrCat("exchange ", absl::CHexEscape(a), " with"), b);
  }
  return absl::OkStatus();
}

absl::StatusOr<FilesystemSpace> GetFilesystemSpace(int fd) {
  struct statfs filesystem = {};
  if (::fstatfs(fd, &filesystem) != 0) {
    return ErrnoError(errno, "read the free space");
  }
  const auto block = static_cast<uint64_t>(filesystem.f_bsize);
  FilesystemSpace space{.total = filesystem.f_blocks * block,
                        .available = filesystem.f_bavail * block};
  if (filesystem.f_type != BTRFS_SUPER_MAGIC) {
    return space;
  }
  // The struct ends in an array without a size.
  alignas(btrfs_ioctl_space_args) char
      buffer[sizeof(btrfs_ioctl_space_args) + kMaxSpaceInfos * sizeof(btrfs_ioctl_space_info)] = {};
  auto* args = reinterpret_cast<btrfs_ioctl_space_args*>(buffer);
  args->space_slots = kMaxSpaceInfos;
  if (::ioctl(fd, BTRFS_IOC_SPACE_INFO, args) != 0) {
    return ErrnoError(errno, "read the free space");
  }
  uint64_t allocated = 0;
  for (uint64_t i = 0; i < std::min<uint64_t>(args->total_spaces, kMaxSpaceInfos); ++i) {
    btrfs_ioctl_space_info info;
    std::memcpy(&info, buffer + sizeof(btrfs_ioctl_space_args) + i * sizeof info, sizeof info);
    if ((info.flags & BTRFS_SPACE_INFO_GLOBAL_RSV) != 0) {
      space.metadata_used += info.total_bytes;
      continue;
    }
    const bool twice = (info.flags & (BTRFS_BLOCK_GROUP_DUP | BTRFS_BLOCK_GROUP_RAID1)) != 0;
    allocated += info.total_bytes * (twice ? 2 : 1);
    if ((info.flags & BTRFS_BLOCK_GROUP_METADATA) != 0) {
      space.metadata_total += info.total_bytes;
      space.metadata_used += info.used_bytes;
    }
  }
  space.unallocated = space.total - std::min(space.total, allocated);
  space.available -= std::min(space.available, PromisedBytes(fd));
  return space;
}

}  // namespace vibe::state
