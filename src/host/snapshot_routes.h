// The routes of docs/api/openapi.yaml about snapshots and copies of projects.
#pragma once

#include <vector>

#include "host/projects.h"
#include "host/route.h"

namespace vibe::host {

std::vector<Route> SnapshotRoutes(Projects& projects);

}  // namespace vibe::host
