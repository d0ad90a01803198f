// The JSON of the machine (schema Machine). Thread-safe.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "vibe/v1/supervisor.pb.h"
#include "vm/machine.h"

namespace vibe::host {

// `reason` says why the backend was chosen. `health` and `disk` are what the supervisor said, if it
// did.
nlohmann::json MachineJson(const vm::Machine& machine, const std::string& reason,
                           const std::optional<v1::HealthResponse>& health,
                           const std::optional<v1::DiskUsageResponse>& disk);

}  // namespace vibe::host
