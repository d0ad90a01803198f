#include "supervisor/rootfs.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/unique_fd.h"

namespace vibe::supervisor {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

// The kernel resolves every symlink as if the layer's folder were the root.
UniqueFd OpenInLayer(const std::string& layer, const std::string& path, int flags) {
  UniqueFd root(::open(layer.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) {
    return {};
  }
  open_how how{};
  how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
  if ((flags & O_PATH) == 0) {  // openat2 refuses the two together
    how.flags |= O_NONBLOCK;
  }
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(
      static_cast<int>(::syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof how)));
}

}  // namespace

std::vector<std::string> LayerDirectories(const std::vector<containerd::Mount>& mounts) {
  std::vector<std::string> layers;
  for (const containerd::Mount& mount : mounts) {
    if (mount.type == "bind") {
      layers.push_back(mount.source);
    }
    for (const std::string& option : mount.options) {
      absl::string_view value = option;
      if (absl::ConsumePrefix(&value, "upperdir=")) {
        layers.insert(layers.begin(), std::string(value));
      } else if (absl::ConsumePrefix(&value, "lowerdir=")) {
        for (const absl::string_view layer : absl::StrSplit(value, ':')) {
          layers.emplace_back(layer);
        }
      }
    }
  }
  return layers;
}

std::string ReadImageFile(const std::vector<std::string>& layers, const std::string& path) {
  for (const std::string& layer : layers) {
    const UniqueFd file = OpenInLayer(layer, path, O_RDONLY);
    struct stat info {};
    if (!file.valid() || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
      continue;
    }
    std::string content(kMaxFileBytes, '\0');
    const ssize_t count = ::read(file.get(), content.data(), content.size());
    content.resize(count > 0 ? static_cast<size_t>(count) : 0);
    return content;
  }
  return "";
}

bool HasSettings(const std::vector<std::string>& layers, const std::string& path) {
  for (const std::string& layer : layers) {
    const UniqueFd entry = OpenInLayer(layer, path, O_PATH | O_NOFOLLOW);
    struct stat info {};
    if (!entry.valid() || ::fstat(entry.get(), &info) != 0) {
      continue;
    }
    if (S_ISCHR(info.st_mode) && info.st_rdev == 0) {
      return false;  // overlayfs's mark: removed from the layers below
    }
    if (!S_ISREG(info.st_mode)) {
      return true;
    }
    const std::string content = ReadImageFile({layer}, path);
    const std::vector<absl::string_view> lines = absl::StrSplit(content, '\n');
    return std::any_of(lines.begin(), lines.end(), [](absl::string_view line) {
      line = absl::StripLeadingAsciiWhitespace(line);
      return !line.empty() && line[0] != '#';
    });
  }
  return false;
}

std::optional<Ownership> DirectoryOwnership(const std::vector<std::string>& layers,
                                            const std::string& path) {
  for (const std::string& layer : layers) {
    const UniqueFd directory = OpenInLayer(layer, path, O_PATH | O_DIRECTORY);
    struct stat info {};
    if (directory.valid() && ::fstat(directory.get(), &info) == 0) {
      return Ownership{info.st_uid, info.st_gid, info.st_mode & 07777};
    }
  }
  return std::nullopt;
}

}  // namespace vibe::supervisor
