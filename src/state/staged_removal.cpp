#include "state/staged_removal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status.h"
#include "state/files_at.h"
#include "state/project_directory.h"
#include "state/subvolume.h"

namespace vibe::state {
namespace {

constexpr size_t kNameBytes = 8;

// A subvolume is removed out of a folder of its own, which is on the disk by then and which nobody
// syncs. First, the kernel locks that folder for as long as it takes: no other operation waits for
// staging/. Second, a power cut must find no log (of another thread's fsync) of a folder that has
// lost a subvolume since: Linux 6.18 cannot replay it, and does not mount the file system any more
// ("log replay failed in check_item_in_log"). A rename of a subvolume rules logs out until the
// next commit, and the kernel logs no folder that neither is new nor was synced.
absl::Status RemoveSubvolume(int staging, int from, const std::string& name) {
  const std::string folder = absl::StrCat("old-", RandomHex(kNameBytes));
  if (::mkdirat(staging, folder.c_str(), 0700) != 0) {
    return ErrnoError(errno, "make a folder");
  }
  VIBE_ASSIGN_OR_RETURN(const UniqueFd alone, OpenDirectoryAt(staging, folder));
  {
    // The kernel gives no read-only folder another parent.
    VIBE_ASSIGN_OR_RETURN(const UniqueFd subvolume, OpenSubvolume(from, name));
    VIBE_RETURN_IF_ERROR(SetReadOnly(subvolume.get(), false));
  }
  if (::renameat(from, name.c_str(), alone.get(), kState) != 0) {
    return ErrnoError(errno, "move what is to be removed");
  }
  VIBE_RETURN_IF_ERROR(CommitFilesystem(staging));
  return RemoveAt(staging, folder);
}

absl::StatusOr<bool> HasSubvolume(int folder, const std::string& name) {
  absl::StatusOr<bool> is = IsSubvolume(folder, name);
  return absl::IsNotFound(is.status()) ? false : is;
}

}  // namespace

absl::Status RemoveStagedAt(int staging, const std::string& name) {
  VIBE_ASSIGN_OR_RETURN(const bool bare, HasSubvolume(staging, name));
  if (bare) {
    return RemoveSubvolume(staging, staging, name);
  }
  // A folder may hold one; whatever else lies there has none.
  if (const absl::StatusOr<UniqueFd> folder = OpenDirectoryAt(staging, name); folder.ok()) {
    VIBE_ASSIGN_OR_RETURN(const bool holds, HasSubvolume(folder->get(), kState));
    if (holds) {
      VIBE_RETURN_IF_ERROR(RemoveSubvolume(staging, folder->get(), kState));
    }
  }
  return RemoveAt(staging, name);
}

}  // namespace vibe::state
