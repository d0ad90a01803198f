// vibe-init: the first process of Vibe's VM.
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "init/child.h"
#include "init/guest/guest.h"
#include "init/guest/power.h"
#include "init/guest/root.h"
#include "init/guest/settings.h"
#include "init/guest/timeline.h"
#include "init/worker.h"
#include "vm/native/layout.h"

namespace vibe::init::guest {
namespace {

namespace inside = vm::native::inside;

constexpr rlim_t kOpenFiles = 1 << 20;

void Write(const char* path, const char* text) {
  if (std::FILE* file = std::fopen(path, "we"); file != nullptr) {
    std::fputs(text, file);
    std::fclose(file);
  }
}

// A controller that the kernel lacks costs services their limit of that kind, nothing else.
void LetServicesHaveControllers() {
  for (const char* directory : {"/sys/fs/cgroup", "/sys/fs/cgroup/vibe"}) {
    ::mkdir(directory, 0755);
    for (const char* controller : {"+cpu", "+memory", "+pids", "+io"}) {
      Write(absl::StrCat(directory, "/cgroup.subtree_control").c_str(), controller);
    }
  }
}

absl::Status Prepare(const Settings& settings) {
  const rlimit limit{kOpenFiles, kOpenFiles};
  if (::sethostname(settings.hostname.data(), settings.hostname.size()) != 0 ||
      ::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return ErrnoError(errno, "set the machine's name and limits");
  }
  for (const char* directory :
       {inside::kHost, inside::kState, inside::kContainerdState, inside::kNamespaces}) {
    VIBE_RETURN_IF_ERROR(MakeDirectories(directory, 0755));
  }
  LetServicesHaveControllers();
  CatchCtrlAltDel();
  return absl::OkStatus();
}

absl::Status Live() {
  Timeline timeline;
  timeline.Mark("kernel");
  ::umask(022);
  VIBE_ASSIGN_OR_RETURN(UniqueFd signals, SignalDescriptor());
  VIBE_RETURN_IF_ERROR(MountKernelFileSystems());
  VIBE_ASSIGN_OR_RETURN(const std::string command_line, ReadFile("/proc/cmdline", 64 << 10));
  VIBE_ASSIGN_OR_RETURN(Settings settings, ParseSettings(command_line));
  VIBE_RETURN_IF_ERROR(SwitchRoot());
  VIBE_RETURN_IF_ERROR(MountTheRest());
  VIBE_RETURN_IF_ERROR(Prepare(settings));
  timeline.Mark("root");
  Guest guest(std::move(settings), std::move(timeline), std::move(signals));
  const absl::Status status = guest.Run();
  if (!status.ok()) {
    SayError("fatal", status);
  }
  guest.Stop();
  return absl::OkStatus();
}

}  // namespace
}  // namespace vibe::init::guest

int main() {
  if (::getpid() != 1) {
    std::fputs("error: vibe-init is the first process of Vibe's VM; it is of no use elsewhere\n",
               stderr);
    return 2;
  }
  const absl::Status status = vibe::init::guest::Live();
  if (!status.ok()) {
    vibe::init::SayError("fatal", status);
  }
  vibe::init::guest::SwitchOff();
}
