// btrfs subvolumes, by the kernel's ioctls (linux/btrfs.h). A subvolume is named by the directory
// that holds it, an open descriptor of which the caller owns, and one name in it: no call walks a
// path, so none can be led astray by a symlink or a rename. A name is 1 to 255 bytes without '/',
// and not "." or ".."; any other is InvalidArgument.
//
// Thread-safe. Every call blocks for the disk. The process needs CAP_SYS_ADMIN. Errors are the
// errno of the call with the name in their message: NotFound, AlreadyExists, ResourceExhausted with
// the reason DISK_LOW when the file system is full, FailedPrecondition for what is no subvolume.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace vibe::state {

struct SubvolumeInfo {
  uint64_t id = 0;
  std::string uuid;                // of this subvolume: "01234567-89ab-…", never empty
  std::string parent_uuid;         // of what it was cloned from; empty when it was made new
  std::string received_uuid;       // empty unless `btrfs receive` made it
  uint64_t generation = 0;         // transaction of its last commit; a snapshot of it counts too
  uint64_t change_generation = 0;  // transaction of the last change of a file in it (ctransid)
  uint64_t origin_generation = 0;  // transaction that made it (otransid)
  bool read_only = false;
};

// A subvolume inside another one. A snapshot has an empty directory in its place.
struct NestedSubvolume {
  uint64_t id = 0;
  std::string name;  // bytes; the last component of its path
};

enum class SnapshotMode { kReadOnly, kWritable };

// False for what is there and is something else, on any file system. NotFound when nothing is.
absl::StatusOr<bool> IsSubvolume(int directory, absl::string_view name);

// FailedPrecondition when it is no subvolume.
absl::StatusOr<UniqueFd> OpenSubvolume(int directory, absl::string_view name);

absl::Status CreateSubvolume(int directory, absl::string_view name);

// Makes `name` in `directory`, a clone of the subvolume that is open as `source`: all of its files
// at one instant, with every write that had returned before the call. It is on the disk when the
// call returns. Both lie on one file system.
absl::Status SnapshotSubvolume(int source, int directory, absl::string_view name,
                               SnapshotMode mode);

absl::Status SetReadOnly(int subvolume, bool read_only);

// Removes a subvolume, read-only or not, and those nested in it, deepest first. Files in it that
// are open stay readable and writable until they are closed, but names in it may not be found any
// more, also by way of a bind mount; its space comes back in the background. FailedPrecondition
// when more than 100,000 are nested.
absl::Status DestroySubvolume(int directory, absl::string_view name);

absl::StatusOr<SubvolumeInfo> GetSubvolumeInfo(int subvolume);

// The subvolumes directly in this one, at most `max`; not those nested deeper.
absl::StatusOr<std::vector<NestedSubvolume>> ListNestedSubvolumes(int subvolume, size_t max);

// All that was written to the file system of `fd` before the call is on the disk after it.
absl::Status CommitFilesystem(int fd);

// The same, and the kernel begins to free what removed subvolumes took, for which it else takes its
// time: up to half a minute.
absl::Status CommitAndFree(int fd);

// Swaps two names in one step: after a crash both are as before or both are swapped. Either may be
// a subvolume. Call CommitFilesystem to make it last.
absl::Status ExchangeNames(int directory_a, absl::string_view a, int directory_b,
                           absl::string_view b);

// Bytes. `available` is what a program can still write: what statfs tells, without what waits in
// memory for its place on the disk. On btrfs metadata has
// block groups of its own, which can be full while data has room.
struct FilesystemSpace {
  uint64_t total = 0;
  uint64_t available = 0;
  uint64_t metadata_total = 0;  // allocated to metadata, all copies counted once
  uint64_t metadata_used = 0;   // with the global reserve, which only deleting may use
  uint64_t unallocated = 0;     // neither data's nor metadata's yet

  // What metadata can still grow by: the rest of its block groups and half of what is unallocated
  // (the "DUP" profile writes it twice).
  uint64_t MetadataAvailable() const {
    return metadata_total - std::min(metadata_total, metadata_used) + unallocated / 2;
  }
};
absl::StatusOr<FilesystemSpace> GetFilesystemSpace(int fd);

}  // namespace vibe::state
