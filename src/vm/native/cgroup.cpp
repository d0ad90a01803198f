#include "vm/native/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::vm::native {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxCgroupFile = 4 << 20;
constexpr absl::Duration kPollPause = absl::Milliseconds(5);
constexpr absl::Duration kFreezeTimeout = absl::Seconds(5);
const char* const kControllers[] = {"cpuset", "cpu", "io", "memory", "pids"};

absl::Status WriteControl(const fs::path& path, absl::string_view value) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid() ||
      ::write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
    return ErrnoError(errno, absl::StrCat("write ", value, " to ", path.string()));
  }
  return absl::OkStatus();
}

std::string ReadControl(const fs::path& path) {
  const absl::StatusOr<std::string> text = ReadFile(path, kMaxCgroupFile);
  return text.ok() ? std::string(absl::StripAsciiWhitespace(*text)) : "";
}

// Version 1 lets nobody into a cpuset whose processors and memory nodes were never set.
absl::Status FillCpuset(const fs::path& group) {
  for (const char* file : {"cpuset.cpus", "cpuset.mems"}) {
    if (::access((group / file).c_str(), F_OK) == 0 && ReadControl(group / file).empty()) {
      VIBE_RETURN_IF_ERROR(WriteControl(group / file, ReadControl(group.parent_path() / file)));
    }
  }
  return absl::OkStatus();
}

absl::Status Make(const CgroupHierarchy& hierarchy, const fs::path& group) {
  if (::mkdir(group.c_str(), 0755) != 0 && errno != EEXIST) {
    return ErrnoError(errno, absl::StrCat("make the cgroup ", group.string()));
  }
  return hierarchy.version2 ? absl::OkStatus() : FillCpuset(group);
}

// The cgroup and all below it, parents first.
std::vector<fs::path> Tree(const fs::path& root) {
  std::vector<fs::path> tree;
  std::error_code error;
  if (!fs::is_directory(root, error)) {
    return tree;
  }
  tree.push_back(root);
  for (fs::recursive_directory_iterator entry(root, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code gone;
    if (entry->is_directory(gone)) {
      tree.push_back(entry->path());
    }
  }
  return tree;
}

// \040 for a space, as the kernel writes paths.
std::string Unescape(absl::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                        (text[i + 3] - '0')));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

// What of a version 1 superblock's options says which hierarchy it is.
std::string HierarchyOptions(absl::string_view super_options) {
  std::vector<std::string> options;
  bool named = false;
  for (absl::string_view option : absl::StrSplit(super_options, ',')) {
    if (absl::StartsWith(option, "name=")) {
      named = true;
    } else if (option == "rw" || option == "ro" || option == "xattr" || option == "noprefix" ||
               option == "clone_children" || absl::StrContains(option, "=") ||
               absl::StartsWith(option, "cpuset_v2")) {
      continue;
    }
    options.emplace_back(option);
  }
  if (named && options.size() == 1) {
    options.insert(options.begin(), "none");
  }
  return absl::StrJoin(options, ",");
}

}  // namespace

std::vector<CgroupHierarchy> ParseMountInfo(absl::string_view mountinfo) {
  std::vector<CgroupHierarchy> hierarchies;
  for (absl::string_view line : absl::StrSplit(mountinfo, '\n')) {
    const std::vector<absl::string_view> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) {
      continue;
    }
    const std::vector<absl::string_view> mount = absl::StrSplit(halves[0], ' ');
    const std::vector<absl::string_view> file_system = absl::StrSplit(halves[1], ' ');
    if (mount.size() < 6 || file_system.size() < 3 ||
        (file_system[0] != "cgroup" && file_system[0] != "cgroup2") ||
        absl::StartsWith(mount[5], "ro")) {
      continue;
    }
    CgroupHierarchy hierarchy{
        .mount = Unescape(mount[4]), .version2 = file_system[0] == "cgroup2", .options = ""};
    if (!hierarchy.version2) {
      hierarchy.options = HierarchyOptions(file_system[2]);
    }
    const bool known =
        std::any_of(hierarchies.begin(), hierarchies.end(), [&](const CgroupHierarchy& other) {
          return other.version2 == hierarchy.version2 && other.options == hierarchy.options;
        });
    if (!known) {
      hierarchies.push_back(std::move(hierarchy));
    }
  }
  return hierarchies;
}

absl::StatusOr<std::vector<CgroupHierarchy>> CgroupHierarchies() {
  VIBE_ASSIGN_OR_RETURN(const std::string mountinfo,
                        ReadFile("/proc/self/mountinfo", kMaxCgroupFile));
  std::vector<CgroupHierarchy> hierarchies = ParseMountInfo(mountinfo);
  if (hierarchies.empty()) {
    return WithAdvice(
        absl::FailedPreconditionError("no writable cgroup file system is mounted"),
        "mount it with `mount -t cgroup2 none /sys/fs/cgroup`; inside a container, run that "
        "container privileged");
  }
  return hierarchies;
}

bool IsUnified(const std::vector<CgroupHierarchy>& hierarchies) {
  return std::all_of(hierarchies.begin(), hierarchies.end(),
                     [](const CgroupHierarchy& hierarchy) { return hierarchy.version2; });
}

absl::Status Cgroup::Enter(pid_t pid, absl::string_view leaf) const {
  for (const CgroupHierarchy& hierarchy : hierarchies_) {
    fs::path group = PathIn(hierarchy);
    VIBE_RETURN_IF_ERROR(Make(hierarchy, group));
    if (!leaf.empty()) {
      group /= std::string(leaf);
      VIBE_RETURN_IF_ERROR(Make(hierarchy, group));
    }
    VIBE_RETURN_IF_ERROR(WriteControl(group / "cgroup.procs", absl::StrCat(pid)));
  }
  return absl::OkStatus();
}

absl::Status Cgroup::Leave(pid_t pid) const {
  for (const CgroupHierarchy& hierarchy : hierarchies_) {
    VIBE_RETURN_IF_ERROR(WriteControl(hierarchy.mount / "cgroup.procs", absl::StrCat(pid)));
  }
  return absl::OkStatus();
}

std::vector<std::string> Cgroup::EnableControllers() const {
  std::vector<std::string> missing;
  if (!IsUnified(hierarchies_)) {
    return missing;  // version 1 has its controllers where it is mounted
  }
  for (const char* controller : kControllers) {
    const std::string value = absl::StrCat("+", controller);
    const fs::path root = hierarchies_.front().mount / "cgroup.subtree_control";
    const std::vector<std::string> enabled = absl::StrSplit(ReadControl(root), ' ');
    if (std::find(enabled.begin(), enabled.end(), controller) == enabled.end()) {
      WriteControl(root, value).IgnoreError();  // the next write says whether it is there now
    }
    if (!WriteControl(PathIn(hierarchies_.front()) / "cgroup.subtree_control", value).ok()) {
      missing.emplace_back(controller);
    }
  }
  return missing;
}

std::set<pid_t> Cgroup::Processes() const {
  std::set<pid_t> pids;
  for (const CgroupHierarchy& hierarchy : hierarchies_) {
    for (const fs::path& group : Tree(PathIn(hierarchy))) {
      for (absl::string_view line : absl::StrSplit(ReadControl(group / "cgroup.procs"), '\n')) {
        pid_t pid = 0;
        if (absl::SimpleAtoi(line, &pid) && pid > 0) {
          pids.insert(pid);
        }
      }
    }
  }
  return pids;
}

absl::Status Cgroup::Kill(absl::Time deadline) const {
  while (true) {
    const std::set<pid_t> pids = Processes();
    if (pids.empty()) {
      return absl::OkStatus();
    }
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("processes ", absl::StrJoin(pids, ", "), " do not die"));
    }
    for (const CgroupHierarchy& hierarchy : hierarchies_) {
      if (hierarchy.version2) {
        WriteControl(PathIn(hierarchy) / "cgroup.kill", "1").IgnoreError();  // since Linux 5.14
      }
    }
    for (const pid_t pid : pids) {
      ::kill(pid, SIGKILL);
    }
    // A frozen process of version 1 takes no signal.
    for (const CgroupHierarchy& hierarchy : hierarchies_) {
      if (hierarchy.options == "freezer") {
        for (const fs::path& group : Tree(PathIn(hierarchy))) {
          WriteControl(group / "freezer.state", "THAWED").IgnoreError();
        }
      }
    }
    absl::SleepFor(kPollPause);
  }
}

absl::Status Cgroup::Remove(absl::Time deadline) const {
  for (const CgroupHierarchy& hierarchy : hierarchies_) {
    while (true) {
      std::vector<fs::path> tree = Tree(PathIn(hierarchy));
      if (tree.empty()) {
        break;
      }
      int error = 0;
      std::for_each(tree.rbegin(), tree.rend(), [&](const fs::path& group) {
        if (::rmdir(group.c_str()) != 0 && errno != ENOENT) {
          error = errno;
        }
      });
      if (error == 0) {
        continue;  // looks again: the machine's last process may just have made one
      }
      if (absl::Now() > deadline) {
        return absl::DeadlineExceededError(
            absl::StrCat("the cgroup ", PathIn(hierarchy).string(),
                         " cannot be removed: ", std::generic_category().message(error)));
      }
      absl::SleepFor(kPollPause);
    }
  }
  return absl::OkStatus();
}

const CgroupHierarchy* Cgroup::Freezer() const {
  const CgroupHierarchy* freezer = nullptr;
  for (const CgroupHierarchy& hierarchy : hierarchies_) {
    if (hierarchy.version2 && ::access((PathIn(hierarchy) / "cgroup.freeze").c_str(), W_OK) == 0) {
      return &hierarchy;
    }
    if (hierarchy.options == "freezer") {
      freezer = &hierarchy;
    }
  }
  return freezer;
}

absl::Status Cgroup::SetFrozen(bool frozen) const {
  const CgroupHierarchy* freezer = Freezer();
  if (freezer == nullptr) {
    return absl::UnimplementedError("the host has no cgroup freezer");
  }
  const fs::path group = PathIn(*freezer);
  const absl::string_view want =
      freezer->version2 ? (frozen ? "frozen 1" : "frozen 0") : (frozen ? "FROZEN" : "THAWED");
  const absl::Time deadline = absl::Now() + kFreezeTimeout;
  while (true) {
    VIBE_RETURN_IF_ERROR(freezer->version2
                             ? WriteControl(group / "cgroup.freeze", frozen ? "1" : "0")
                             : WriteControl(group / "freezer.state", want));
    if (absl::StrContains(
            ReadControl(group / (freezer->version2 ? "cgroup.events" : "freezer.state")), want)) {
      return absl::OkStatus();
    }
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(frozen ? "the machine does not stand still"
                                                : "the machine does not go on");
    }
    absl::SleepFor(kPollPause);
  }
}

bool Cgroup::Frozen() const {
  const CgroupHierarchy* freezer = Freezer();
  if (freezer == nullptr) {
    return false;
  }
  const fs::path group = PathIn(*freezer);
  const std::string state =
      ReadControl(group / (freezer->version2 ? "cgroup.freeze" : "freezer.state"));
  // Read once: of a machine that starts just now, it is not there yet and then thawed.
  return freezer->version2 ? state == "1" : !state.empty() && state != "THAWED";
}

}  // namespace vibe::vm::native
