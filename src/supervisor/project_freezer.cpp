#include "supervisor/project_freezer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::supervisor {
namespace fs = std::filesystem;
namespace {

constexpr absl::Duration kPoll = absl::Microseconds(200);
constexpr uint64_t kMaxState = 4096;
constexpr char kRoot[] = "/sys/fs/cgroup";

absl::Status Write(const fs::path& path, absl::string_view value) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid() ||
      ::write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
    return ErrnoError(errno, absl::StrCat("write ", value, " to ", path.string()));
  }
  return absl::OkStatus();
}

}  // namespace

ProjectFreezer::ProjectFreezer(const Plan& plan)
    : group_(plan.services.empty()
                 ? fs::path()
                 : fs::path(plan.services[0].cgroup).parent_path().relative_path()) {}

std::vector<ProjectFreezer::Control> ProjectFreezer::Controls() const {
  std::vector<Control> controls;
  if (group_.empty()) {
    return controls;
  }
  std::vector<fs::path> groups = {fs::path(kRoot) / group_};
  std::error_code error;
  for (const auto& hierarchy : fs::directory_iterator(kRoot, error)) {
    if (!hierarchy.is_symlink(error)) {
      groups.push_back(hierarchy.path() / group_);
    }
  }
  for (const fs::path& group : groups) {
    if (fs::exists(group / "cgroup.freeze", error)) {
      controls.push_back({group / "cgroup.freeze", group / "cgroup.events", "1", "0", "frozen 1"});
    } else if (fs::exists(group / "freezer.state", error)) {
      controls.push_back(
          {group / "freezer.state", group / "freezer.state", "FROZEN", "THAWED", "FROZEN"});
    }
  }
  return controls;
}

absl::Status ProjectFreezer::Freeze(absl::Duration timeout) const {
  const std::vector<Control> controls = Controls();
  if (controls.empty() && !group_.empty()) {
    return absl::FailedPreconditionError("the services are in no cgroup that can be frozen");
  }
  for (const Control& control : controls) {
    VIBE_RETURN_IF_ERROR(Write(control.file, control.freeze));
  }
  const absl::Time deadline = absl::Now() + timeout;
  for (const Control& control : controls) {
    while (true) {
      VIBE_ASSIGN_OR_RETURN(const std::string state, ReadFile(control.state, kMaxState));
      if (absl::StrContains(state, control.frozen)) {
        break;
      }
      if (absl::Now() >= deadline) {
        return absl::DeadlineExceededError(
            absl::StrCat("the services do not stand still within ", absl::FormatDuration(timeout)));
      }
      absl::SleepFor(kPoll);
    }
  }
  return absl::OkStatus();
}

void ProjectFreezer::Thaw() const {
  for (const Control& control : Controls()) {
    // Version 1 may miss a thaw that comes while it still freezes; the file then says so.
    Write(control.file, control.thaw).IgnoreError();
  }
}

}  // namespace vibe::supervisor
