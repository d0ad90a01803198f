#include "cli/run.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <map>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/definitions.h"
#include "cli/error_text.h"
#include "cli/screen.h"
#include "cli/session.h"

namespace vibe::cli {
namespace {

using Command = absl::StatusOr<int> (*)(Session&, const Invocation&);

Command FindRunner(const std::string& name) {
  static const std::map<std::string, Command> kCommands = {
      {"open", RunOpen},
      {"start", RunStart},
      {"stop", RunStop},
      {"restart", RunRestart},
      {"grant", RunGrant},
      {"revoke", RunRevoke},
      {"ps", RunPs},
      {"ports", RunPorts},
      {"logs", RunLogs},
      {"exec", RunExec},
      {"rm", RunRm},
      {"save", RunSave},
      {"snapshots", RunSnapshots},
      {"restore", RunRestore},
      {"duplicate", RunDuplicate},
      {"snapshot rm", RunSnapshotRm},
      {"validate", RunValidate},
      {"machine status", RunMachineStatus},
      {"machine start", RunMachineStart},
      {"machine stop", RunMachineStop},
      {"machine restart", RunMachineRestart},
      {"machine logs", RunMachineLogs},
      {"machine reset", RunMachineReset},
      {"doctor", RunDoctor},
      {"version", RunVersion},
      {"completion", RunCompletion},
      {"man", RunMan},
      {"__complete", RunComplete},
  };
  const auto found = kCommands.find(name);
  return found == kCommands.end() ? nullptr : found->second;
}

// People read stderr; with --json a script finds a document on stdout whatever happens.
void Report(const absl::Status& error, bool json) {
  const Screen screen = LookAtScreen(STDERR_FILENO, false);
  if (!IsInterrupted(error)) {
    const std::string text = RenderError(error, screen.color);
    std::fwrite(text.data(), 1, text.size(), stderr);
  } else if (screen.terminal) {
    std::fputs("interrupted\n", stderr);
  }
  if (json) {
    const std::string document = absl::StrCat(Dump(Json{{"error", ErrorToJson(error)}}), "\n");
    std::fwrite(document.data(), 1, document.size(), stdout);
  }
}

int Finish(int exit_code) {
  const absl::StatusOr<bool> flushed = FlushOutput();
  if (!flushed.ok()) {
    Report(flushed.status(), false);
    return kExitFailed;
  }
  return exit_code;
}

absl::StatusOr<int> Run(const Invocation& invocation) {
  const Command command = FindRunner(invocation.command);
  if (command == nullptr) {
    return absl::InternalError(absl::StrCat("vibe has no code for ", invocation.command));
  }
  VIBE_ASSIGN_OR_RETURN(Session session, Session::Make(invocation.global));
  return command(session, invocation);
}

}  // namespace

int RunVibe(const std::vector<std::string>& args) {
  // A reader that has gone is seen when writing fails, and terminals are left in order.
  std::signal(SIGPIPE, SIG_IGN);
  const ParseOutcome outcome = ParseArguments(args);
  if (!outcome.error.ok()) {
    Report(outcome.error, outcome.json);
    return Finish(kExitUsage);
  }
  if (!outcome.invocation) {
    const std::string text =
        outcome.json ? absl::StrCat(Dump(Json{{"help", outcome.help}}), "\n") : outcome.help;
    std::fwrite(text.data(), 1, text.size(), stdout);
    return Finish(kExitOk);
  }
  const absl::StatusOr<int> result = Run(*outcome.invocation);
  if (!result.ok()) {
    Report(result.status(), outcome.json);
    return Finish(IsInterrupted(result.status()) ? kExitInterrupted : kExitFailed);
  }
  return Finish(*result);
}

}  // namespace vibe::cli
