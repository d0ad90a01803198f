// current/runtime/service-state.json: what `ps` shows of services beyond what containerd knows, so
// that a restarted supervisor still knows it:
//   {"services":{"web":{"status":"running","startedAt":"2026-01-02T03:04:05.678Z","restartCount":1}}}
// Thread-safe.
#pragma once

#include <filesystem>
#include <vector>

#include "absl/status/status.h"
#include "supervisor/plan.h"
#include "supervisor/project_runtime.h"

namespace vibe::supervisor {

absl::Status SaveServiceStates(const std::filesystem::path& file, const Plan& plan,
                               const std::vector<ServiceState>& states);

// In the plan's order. A file that is missing or broken gives fresh states.
std::vector<ServiceState> LoadServiceStates(const std::filesystem::path& file, const Plan& plan);

}  // namespace vibe::supervisor
