// The commands: each takes what the user asked for, does it, prints its result and returns the exit
// code. An error is printed by the caller. Each is in a file of its own, command_*.cpp. All run on
// the main thread.
#pragma once

#include "absl/status/statusor.h"
#include "cli/definitions.h"
#include "cli/session.h"

namespace vibe::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;

absl::StatusOr<int> RunOpen(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunStart(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunStop(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunRestart(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunGrant(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunRevoke(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunPs(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunPorts(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunLogs(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunExec(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunRm(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunSave(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunSnapshots(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunRestore(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunDuplicate(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunSnapshotRm(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunValidate(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunMachineStatus(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunMachineStart(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunMachineStop(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunMachineRestart(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunMachineLogs(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunMachineReset(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunDoctor(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunVersion(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunCompletion(Session& session, const Invocation& invocation);
absl::StatusOr<int> RunMan(Session& session, const Invocation& invocation);
// Prints words for the shell to complete with; says nothing about what fails, and starts nothing.
absl::StatusOr<int> RunComplete(Session& session, const Invocation& invocation);

}  // namespace vibe::cli
