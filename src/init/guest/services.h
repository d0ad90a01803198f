// The two programs that vibe-init keeps running, and what they are told.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "init/guest/settings.h"
#include "init/service.h"

namespace vibe::init::guest {

inline constexpr char kSupervisorProgram[] = "/usr/bin/vibe-supervisor";

// Both keep their logs on the data disk, which has to be mounted.
absl::StatusOr<Service> MakeContainerd();
// Reads the uplink's lease, when there is one.
absl::StatusOr<Service> MakeSupervisor(const Settings& settings);

// The last lines of a service's log, for the console.
std::vector<std::string> LastLines(const std::string& service);

}  // namespace vibe::init::guest
