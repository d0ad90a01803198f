// vibe-qemu-keeper: starts a virtual machine in the background and stays with it. vibed calls it.
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "init/background.h"
#include "vm/qemu/keeper.h"
#include "vm/qemu/layout.h"

namespace vibe::vm::qemu {
namespace {

// One list of arguments for two programs: the device's, "--", qemu's.
void Split(std::vector<std::string> commands, KeeperOptions& options) {
  std::vector<std::string>* command = &options.device;
  for (std::string& word : commands) {
    if (command == &options.device && word == "--") {
      command = &options.qemu;
    } else {
      command->push_back(std::move(word));
    }
  }
}

int Start(const KeeperOptions& options) {
  ::close_range(3, ~0U, 0);
  if (options.qemu.empty()) {
    return init::Fail(absl::InvalidArgumentError("there is no qemu to run"));
  }
  for (const std::filesystem::path& directory :
       {Layout{options.machine}.logs(), Layout{options.machine}.run()}) {
    if (absl::Status status = MakeDirectories(directory, 0700); !status.ok()) {
      return init::Fail(status);
    }
  }
  return init::StartInBackground(
      [&](UniqueFd report) {
        ::umask(077);
        return Keep(options, std::move(report));
      },
      "the machine's keeper ended while it started");
}

}  // namespace
}  // namespace vibe::vm::qemu

int main(int argc, char** argv) {
  vibe::vm::qemu::KeeperOptions options;
  // Everything after the first "--" belongs to the programs.
  int own = 1;
  while (own < argc && std::string(argv[own]) != "--") {
    ++own;
  }
  vibe::vm::qemu::Split({argv + std::min(own + 1, argc), argv + argc}, options);
  CLI::App app(
      "Starts Vibe's virtual machine in the background and stays with it; vibed calls it.\n"
      "After the options: -- [the vsock device's command line] -- qemu's command line",
      "vibe-qemu-keeper");
  app.add_option("--machine", options.machine, "The machine's directory")->required();
  app.add_option("--note", options.note, "What to say in the console's log first");
  CLI11_PARSE(app, own, argv);
  return vibe::vm::qemu::Start(options);
}
