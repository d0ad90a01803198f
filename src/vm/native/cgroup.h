// The cgroup that holds all of one machine, in every hierarchy that the host has: the plain version
// 2 tree, version 1, or version 1 with an empty version 2 tree beside it. Every process of the
// machine is found, frozen and killed by it. ParseMountInfo is pure; a Cgroup may be used from any
// thread.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace vibe::vm::native {

struct CgroupHierarchy {
  std::filesystem::path mount;
  bool version2 = false;
  std::string options;  // as for mount(2): "cpu,cpuacct", "none,name=systemd"; empty for version 2

  bool operator==(const CgroupHierarchy&) const = default;
};

// The hierarchies in the text of /proc/self/mountinfo, each once.
std::vector<CgroupHierarchy> ParseMountInfo(absl::string_view mountinfo);
absl::StatusOr<std::vector<CgroupHierarchy>> CgroupHierarchies();
// Whether version 2 is all that there is.
bool IsUnified(const std::vector<CgroupHierarchy>& hierarchies);

class Cgroup {
 public:
  // Nothing is made or looked at.
  Cgroup(std::vector<CgroupHierarchy> hierarchies, std::string name)
      : hierarchies_(std::move(hierarchies)), name_(std::move(name)) {}

  // Makes the cgroup, or "<name>/<leaf>" in it, and moves a process into it.
  absl::Status Enter(pid_t pid, absl::string_view leaf = "") const;
  // Moves a process out again, to the top of each hierarchy.
  absl::Status Leave(pid_t pid) const;
  // Lets children of the cgroup have what controllers there are (version 2 only, where the cgroup
  // itself must have no process). Returns the controllers that could not be had of those that
  // services use.
  std::vector<std::string> EnableControllers() const;

  std::set<pid_t> Processes() const;  // of the cgroup and all below it
  // SIGKILL for all until none is left; DeadlineExceeded when one does not die.
  absl::Status Kill(absl::Time deadline) const;
  // Removes the cgroup and all below it; DeadlineExceeded while it is busy.
  absl::Status Remove(absl::Time deadline) const;

  // Returns when every process stands still, or goes again. Unimplemented without a freezer.
  absl::Status SetFrozen(bool frozen) const;
  bool Frozen() const;

 private:
  std::filesystem::path PathIn(const CgroupHierarchy& hierarchy) const {
    return hierarchy.mount / name_;
  }
  const CgroupHierarchy* Freezer() const;

  std::vector<CgroupHierarchy> hierarchies_;
  std::string name_;
};

}  // namespace vibe::vm::native
