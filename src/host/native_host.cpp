#include "host/doctor.h"

#ifdef __linux__

#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace vibe::host {
namespace {

// Where the machine's init looks, whatever the user's PATH is.
constexpr const char* kProgramDirectories[] = {"/usr/local/sbin/", "/usr/local/bin/", "/usr/sbin/",
                                               "/usr/bin/",        "/sbin/",          "/bin/"};
constexpr const char* kCniDirectories[] = {"/usr/lib/cni/", "/opt/cni/bin/", "/usr/libexec/cni/"};

template <size_t N>
std::string Find(const char* const (&directories)[N], const std::string& name) {
  for (const char* directory : directories) {
    const std::string path = directory + name;
    if (::access(path.c_str(), X_OK) == 0) {
      return path;
    }
  }
  return "";
}

struct Need {
  const char* name;
  const char* package;
  CheckStatus without;
  const char* why;
};

constexpr Need kNeeds[] = {
    {"containerd", "containerd", CheckStatus::kError, "it runs the containers"},
    {"containerd-shim-runc-v2", "containerd", CheckStatus::kError, "it runs the containers"},
    {"mkfs.btrfs", "btrfs-progs", CheckStatus::kError, "the projects' data is on btrfs"},
    {"nft", "nftables", CheckStatus::kError, "it keeps projects apart"},
    {"slirp4netns", "slirp4netns", CheckStatus::kWarning,
     "without it, apps and pulls have no internet"},
};

HealthCheck CheckProgram(const Need& need) {
  const std::string path = Find(kProgramDirectories, need.name);
  if (!path.empty()) {
    return {need.name, CheckStatus::kOk, path, ""};
  }
  return {need.name, need.without, absl::StrCat("not installed: ", need.why),
          absl::StrCat("install the package ", need.package)};
}

HealthCheck CheckRuntime() {
  for (const char* name : {"crun", "runc"}) {
    if (const std::string path = Find(kProgramDirectories, name); !path.empty()) {
      return {"container runtime", CheckStatus::kOk, path, ""};
    }
  }
  return {"container runtime", CheckStatus::kError, "neither crun nor runc is installed",
          "install the package crun"};
}

HealthCheck CheckCni() {
  const std::string path = Find(kCniDirectories, "bridge");
  if (!path.empty()) {
    return {"network plugins", CheckStatus::kOk, path, ""};
  }
  return {"network plugins", CheckStatus::kError, "the CNI plugin bridge is not installed",
          "install the package containernetworking-plugins"};
}

HealthCheck CheckRights() {
  if (::geteuid() == 0) {
    return {"rights", CheckStatus::kOk, "runs as root", ""};
  }
  return {"rights", CheckStatus::kError,
          "the native machine needs root: it makes namespaces, mounts and cgroups",
          "run vibe as root, for instance with `sudo -E vibe …`"};
}

bool FileHas(const char* path, const std::string& text) {
  std::ifstream file(path);
  const std::string content((std::istreambuf_iterator<char>(file)),
                            std::istreambuf_iterator<char>());
  return absl::StrContains(content, text);
}

// A file system whose module the kernel loads when it is first mounted.
bool CanLoad(const std::string& module) {
  utsname system{};
  ::uname(&system);
  return FileHas(absl::StrCat("/lib/modules/", system.release, "/modules.dep").c_str(),
                 absl::StrCat("/", module, ".ko"));
}

HealthCheck CheckKernel() {
  std::vector<std::string> missing;
  for (const char* name : {"net", "mnt", "pid", "ipc", "uts"}) {
    if (::access(absl::StrCat("/proc/self/ns/", name).c_str(), F_OK) != 0) {
      missing.push_back(absl::StrCat(name, " namespaces"));
    }
  }
  if (!FileHas("/proc/filesystems", "\toverlay\n")) {
    missing.push_back("overlayfs (module overlay)");
  }
  if (!FileHas("/proc/filesystems", "\tbtrfs\n") && !CanLoad("btrfs")) {
    missing.push_back("btrfs (module btrfs)");
  }
  if (::access("/dev/loop-control", R_OK | W_OK) != 0 && ::geteuid() == 0) {
    missing.push_back("loop devices (module loop, /dev/loop-control)");
  }
  if (!FileHas("/proc/self/mounts", " cgroup")) {
    missing.push_back("a mounted cgroup tree");
  }
  utsname system{};
  ::uname(&system);
  if (!missing.empty()) {
    return {"kernel", CheckStatus::kError,
            absl::StrCat("Linux ", system.release, " lacks ", absl::StrJoin(missing, ", ")),
            "load the modules, or use a kernel that has them"};
  }
  return {"kernel", CheckStatus::kOk, absl::StrCat("Linux ", system.release), ""};
}

HealthCheck CheckTun() {
  if (::access("/dev/net/tun", R_OK | W_OK) == 0) {
    return {"uplink", CheckStatus::kOk, "/dev/net/tun", ""};
  }
  return {"uplink", CheckStatus::kWarning,
          "/dev/net/tun cannot be opened: apps and pulls have no internet",
          "load the module tun, or give this container the device"};
}

}  // namespace

std::vector<HealthCheck> CheckNativeHost() {
  std::vector<HealthCheck> checks = {CheckRights(), CheckKernel()};
  for (const Need& need : kNeeds) {
    checks.push_back(CheckProgram(need));
  }
  checks.push_back(CheckRuntime());
  checks.push_back(CheckCni());
  checks.push_back(CheckTun());
  return checks;
}

}  // namespace vibe::host

#else

namespace vibe::host {

std::vector<HealthCheck> CheckNativeHost() {
  return {};
}

}  // namespace vibe::host

#endif
