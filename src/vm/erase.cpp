#include "vm/erase.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/random.h"
#include "base/status.h"

namespace vibe::vm {
namespace fs = std::filesystem;
namespace {

constexpr char kPrefix[] = "erased-";
constexpr size_t kRandomBytes = 8;
constexpr uint64_t kBlock = 512;  // of st_blocks

std::set<fs::path> DirectoriesOf(const std::vector<fs::path>& data) {
  std::set<fs::path> directories;
  for (const fs::path& path : data) {
    directories.insert(path.parent_path());
  }
  return directories;
}

}  // namespace

absl::Status SetDataAside(const std::vector<fs::path>& data) {
  for (const fs::path& path : data) {
    const fs::path aside = path.parent_path() / absl::StrCat(kPrefix, RandomHex(kRandomBytes));
    if (std::rename(path.c_str(), aside.c_str()) == 0) {
      VIBE_RETURN_IF_ERROR(SyncDirectory(path.parent_path()));
    } else if (errno != ENOENT && errno != ENOTDIR) {
      return ErrnoError(errno, absl::StrCat("take ", path.string(), " away"));
    }
  }
  return absl::OkStatus();
}

absl::Status DeleteSetAside(const std::vector<fs::path>& data) {
  absl::Status first;
  for (const fs::path& directory : DirectoriesOf(data)) {
    std::vector<fs::path> found;
    std::error_code error;
    for (fs::directory_iterator it(directory, error), end; !error && it != end;
         it.increment(error)) {
      if (absl::StartsWith(it->path().filename().string(), kPrefix)) {
        found.push_back(it->path());
      }
    }
    for (const fs::path& path : found) {
      first.Update(RemoveAll(path));
    }
  }
  return first;
}

uint64_t AllocatedBytes(const std::vector<fs::path>& data) {
  uint64_t blocks = 0;
  std::set<std::pair<uint64_t, uint64_t>> linked;  // files with several names, counted once
  const auto count = [&](const fs::path& path) {
    struct stat info {};
    if (::lstat(path.c_str(), &info) == 0 && (S_ISDIR(info.st_mode) || info.st_nlink < 2 ||
                                              linked.emplace(info.st_dev, info.st_ino).second)) {
      blocks += static_cast<uint64_t>(info.st_blocks);
    }
  };
  for (const fs::path& path : data) {
    count(path);
    std::error_code error;
    if (!fs::is_directory(fs::symlink_status(path, error))) {
      continue;
    }
    for (fs::recursive_directory_iterator
             it(path, fs::directory_options::skip_permission_denied, error),
         end;
         !error && it != end; it.increment(error)) {
      count(it->path());
    }
  }
  return blocks * kBlock;
}

}  // namespace vibe::vm
