// The JSON of the machine (schema Machine). Asks the supervisor, when the machine is up.
// Thread-safe.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "host/supervisor_client.h"
#include "vm/machine.h"

namespace vibe::host {

// `reason` says why the backend was chosen.
nlohmann::json MachineJson(const vm::Machine& machine, SupervisorClient& supervisor,
                           const std::string& reason);

}  // namespace vibe::host
