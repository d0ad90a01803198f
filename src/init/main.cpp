// vibe-native-init: starts the native machine (docs/native-machine.md) and stays as its two first
// processes. The one that was called returns when the machine runs, or with a status other than 0
// and on standard error "error: …" and maybe "advice: …".

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "init/background.h"
#include "init/host_side.h"
#include "init/log_pipe.h"
#include "init/network.h"
#include "init/plan.h"

namespace vibe::init {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxConsoleBytes = 1 << 20;

struct Options {
  fs::path machine;
  fs::path supervisor;
  bool uplink = true;
};

absl::StatusOr<Plan> MakePlan(const Options& options) {
  if (::geteuid() != 0) {
    return WithAdvice(absl::PermissionDeniedError("the native machine needs root"),
                      "run vibe as root, for instance with `sudo -E vibe …`");
  }
  Plan plan;
  VIBE_RETURN_IF_ERROR(MakeDirectories(options.machine, 0700));
  std::error_code error;
  plan.layout.directory = fs::canonical(options.machine, error);
  if (error) {
    return ErrnoError(error.value(), absl::StrCat("find ", options.machine.string()));
  }
  VIBE_RETURN_IF_ERROR(MakeDirectories(plan.layout.logs(), 0700));
  VIBE_ASSIGN_OR_RETURN(plan.programs, FindPrograms(options.supervisor));
  VIBE_ASSIGN_OR_RETURN(plan.hierarchies, vm::native::CgroupHierarchies());
  return plan;
}

void RedirectTo(int console) {
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ::dup2(null.get(), STDIN_FILENO);
  ::dup2(console, STDOUT_FILENO);
  ::dup2(console, STDERR_FILENO);
}

int RunDetached(Plan plan, UniqueFd report) {
  absl::StatusOr<LogPipe> console =
      LogPipe::Make(plan.layout.console_log(), kMaxConsoleBytes, LogPipe::Stamp::kTime);
  if (!console.ok()) {
    const std::string text = absl::StrCat("error: ", console.status().message(), "\n");
    return ::write(report.get(), text.data(), text.size()) < 0 ? 2 : 1;
  }
  // A console that nobody empties must not stop those who write to it.
  ::fcntl(console->write_end(), F_SETFL, O_NONBLOCK);
  RedirectTo(console->write_end());
  Say("---- start");
  const std::string no_uplink = NoUplinkReason(plan.programs.slirp4netns.string());
  if (plan.uplink && !no_uplink.empty()) {
    plan.uplink = false;
    Say(absl::StrCat("no uplink: ", no_uplink, "; images must come with the apps"));
  }
  return RunHost(std::move(plan), *std::move(console), std::move(report));
}

int Start(const Options& options) {
  ::close_range(3, ~0U, 0);
  absl::StatusOr<Plan> plan = MakePlan(options);
  if (!plan.ok()) {
    return Fail(plan.status());
  }
  plan->uplink = options.uplink;
  return StartInBackground(
      [&](UniqueFd report) { return RunDetached(*std::move(plan), std::move(report)); },
      "the machine ended while it was set up");
}

}  // namespace
}  // namespace vibe::init

int main(int argc, char** argv) {
  vibe::init::Options options;
  CLI::App app("Starts Vibe's native machine in the background; vibed calls it.",
               "vibe-native-init");
  app.add_option("--machine", options.machine, "The machine's directory")->required();
  app.add_option("--supervisor", options.supervisor,
                 "The supervisor to run (default: vibe-supervisor beside this program)");
  app.add_flag("!--no-uplink", options.uplink, "Give the machine no way to the internet");
  CLI11_PARSE(app, argc, argv);
  return vibe::init::Start(options);
}
