// The commands that an app's services name for the time around a snapshot (services[].hooks), run
// in the services' own containers. Thread-safe; blocking.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "containerd/client.h"
#include "supervisor/plan.h"

namespace vibe::supervisor {

// All preSave hooks of one save together: somebody waits for it.
inline constexpr absl::Duration kPreSaveLimit = absl::Minutes(10);

enum class HookKind { kPreSave, kPostRestore };
const char* HookName(HookKind kind);  // "preSave", "postRestore"

struct HookPlace {
  containerd::Client& containerd;
  std::filesystem::path exec_directory;  // for the command's streams while it runs
  std::filesystem::path run_directory;   // has the services' .secrets files, if any
};

// Runs the service's hook, if it has one, to its end; the service must run. The process is killed
// after the hook's own timeout, or `limit` when that is shorter, and when `cancelled` says so,
// which is asked often (Cancelled). An error is FailedPrecondition that names the service and how
// the command ended, and has its last output lines, secrets masked.
absl::Status RunHook(const HookPlace& place, const Plan& plan, const PlannedService& service,
                     HookKind kind, absl::Duration limit, const std::function<bool()>& cancelled);

}  // namespace vibe::supervisor
