#include "init/programs.h"

#include <unistd.h>

#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace vibe::init {
namespace fs = std::filesystem;
namespace {

fs::path Find(const char* name) {
  for (absl::string_view directory : absl::StrSplit(kPath, ':')) {
    const fs::path path = fs::path(std::string(directory)) / name;
    if (::access(path.c_str(), X_OK) == 0) {
      return path;
    }
  }
  return {};
}

absl::Status Missing(absl::string_view what, absl::string_view package) {
  return WithAdvice(absl::NotFoundError(absl::StrCat(what, " is not installed")),
                    absl::StrCat("install it with `apt-get install ", package, "`"));
}

}  // namespace

absl::StatusOr<Programs> FindPrograms(const fs::path& supervisor) {
  Programs programs;
  programs.containerd = Find("containerd");
  if (programs.containerd.empty()) {
    return Missing("containerd", "containerd");
  }
  programs.runtime = Find("crun");
  if (programs.runtime.empty()) {
    programs.runtime = Find("runc");
  }
  if (programs.runtime.empty()) {
    return Missing("an OCI runtime (crun or runc)", "crun");
  }
  programs.slirp4netns = Find("slirp4netns");
  for (const char* directory : {"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}) {
    if (::access((fs::path(directory) / "bridge").c_str(), X_OK) == 0) {
      programs.cni = directory;
      break;
    }
  }
  if (programs.cni.empty()) {
    return Missing("the CNI plugin \"bridge\"", "containernetworking-plugins");
  }
  programs.mkfs = Find("mkfs.btrfs");
  if (programs.mkfs.empty()) {
    return Missing("mkfs.btrfs, which makes the data disk's file system,", "btrfs-progs");
  }
  std::error_code error;
  programs.supervisor =
      supervisor.empty()
          ? fs::read_symlink("/proc/self/exe", error).parent_path() / "vibe-supervisor"
          : supervisor;
  const fs::path canonical = fs::canonical(programs.supervisor, error);
  if (error || ::access(canonical.c_str(), X_OK) != 0) {
    return WithAdvice(absl::NotFoundError(absl::StrCat(programs.supervisor.string(),
                                                       " is missing or cannot be run")),
                      "build or install all of vibe's programs into one directory");
  }
  programs.supervisor = canonical;
  return programs;
}

}  // namespace vibe::init
