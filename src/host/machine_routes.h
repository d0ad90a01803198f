// The routes of docs/api/openapi.yaml below /v1/machine.
#pragma once

#include <vector>

#include "host/route.h"
#include "host/routes.h"

namespace vibe::host {

std::vector<Route> MachineRoutes(const ApiWorld& world);

}  // namespace vibe::host
