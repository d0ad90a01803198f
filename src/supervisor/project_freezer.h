// Holds all processes of a project still for a moment, by the cgroup that its services are in.
// Thread-safe in that no two threads freeze the same project; both versions of cgroups.
#pragma once

#include <filesystem>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "supervisor/plan.h"

namespace vibe::supervisor {

class ProjectFreezer {
 public:
  explicit ProjectFreezer(const Plan& plan);

  // Returns when every process stands still: none is inside of a system call that writes, then.
  // DeadlineExceeded when one does not stop in time, FailedPrecondition without a freezer; call
  // Thaw in any case. A project without processes is a success.
  absl::Status Freeze(absl::Duration timeout) const;
  // What is not frozen stays as it is.
  void Thaw() const;

 private:
  struct Control {
    std::filesystem::path file;   // where the wish is written
    std::filesystem::path state;  // where the fact is read
    const char* freeze;
    const char* thaw;
    const char* frozen;  // part of the fact
  };
  // Found anew each time: the group is made at the start and goes with the last service.
  std::vector<Control> Controls() const;

  const std::filesystem::path group_;  // relative to a hierarchy's root; empty: no services
};

}  // namespace vibe::supervisor
