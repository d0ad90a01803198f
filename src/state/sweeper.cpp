#include "state/sweeper.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status.h"
#include "state/background_thread.h"
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

absl::Status RemoveStagedAt(int project, const std::string& staged) {
  VIBE_ASSIGN_OR_RETURN(const UniqueFd staging, OpenDirectoryAt(project, kStaging));
  VIBE_ASSIGN_OR_RETURN(const bool bare, IsSubvolume(staging.get(), staged));
  if (bare) {
    return RemoveSubvolume(staging.get(), staging.get(), staged);
  }
  VIBE_ASSIGN_OR_RETURN(const UniqueFd folder, OpenDirectoryAt(staging.get(), staged));
  const absl::StatusOr<bool> has_state = IsSubvolume(folder.get(), kState);
  if (has_state.ok() && *has_state) {
    VIBE_RETURN_IF_ERROR(RemoveSubvolume(staging.get(), folder.get(), kState));
  }
  return RemoveAt(staging.get(), staged);
}

}  // namespace

Sweeper::~Sweeper() {
  std::thread last;
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
    last = std::move(thread_);
  }
  if (last.joinable()) {
    last.join();
  }
}

void Sweeper::Remove(const std::string& staged) {
  absl::MutexLock lock(&mutex_);
  waiting_.push_back(staged);
  if (running_) {
    return;
  }
  if (thread_.joinable()) {
    thread_.join();  // it has said that it is at its end
  }
  running_ = true;
  thread_ = std::thread([this] { Run(); });
}

void Sweeper::Run() {
  GiveWay();
  while (true) {
    std::string staged;
    {
      absl::MutexLock lock(&mutex_);
      if (ending_ || waiting_.empty()) {
        running_ = false;
        return;
      }
      staged = std::move(waiting_.front());
      waiting_.pop_front();
    }
    RemoveStagedAt(project_, staged).IgnoreError();
  }
}

}  // namespace vibe::state
