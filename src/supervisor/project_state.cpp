#include "supervisor/project_state.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "state/subvolume.h"

namespace vibe::supervisor {
namespace fs = std::filesystem;
namespace {

UniqueFd OpenFolder(const fs::path& path) {
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

// Destroys what of `name` in `folder` is a subvolume; anything else is left to RemoveAll.
absl::Status DestroyIfSubvolume(const UniqueFd& folder, const std::string& name) {
  const absl::StatusOr<bool> is = state::IsSubvolume(folder.get(), name);
  if (absl::IsNotFound(is.status())) {
    return absl::OkStatus();
  }
  VIBE_RETURN_IF_ERROR(is.status());
  if (!*is) {
    return absl::OkStatus();
  }
  const absl::Status status = state::DestroySubvolume(folder.get(), name);
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

std::vector<std::string> NamesIn(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

}  // namespace

absl::Status DestroyProjectState(const fs::path& directory) {
  const UniqueFd project = OpenFolder(directory);
  if (!project.valid()) {
    return errno == ENOENT ? absl::OkStatus() : ErrnoError(errno, "open " + directory.string());
  }
  // No log of these folders may be left of the time before: a power cut would find it, and Linux
  // does not replay one of a folder that has lost a subvolume since (staged_removal.cpp).
  VIBE_RETURN_IF_ERROR(state::CommitFilesystem(project.get()));
  VIBE_RETURN_IF_ERROR(DestroyIfSubvolume(project, "current"));
  // A snapshot's subvolume is in a folder of its own; what is staged may be either.
  for (const char* part : {"snapshots", "staging"}) {
    const UniqueFd folder = OpenFolder(directory / part);
    for (const std::string& name : NamesIn(directory / part)) {
      VIBE_RETURN_IF_ERROR(DestroyIfSubvolume(folder, name));
      if (const UniqueFd inner = OpenFolder(directory / part / name); inner.valid()) {
        VIBE_RETURN_IF_ERROR(DestroyIfSubvolume(inner, "state"));
      }
    }
  }
  VIBE_RETURN_IF_ERROR(RemoveAll(directory));
  // What says that there is a project goes next, and that is on the disk at once: a power cut must
  // not bring back a folder that nobody knows of.
  return state::CommitFilesystem(OpenFolder(directory.parent_path()).get());
}

}  // namespace vibe::supervisor
