// What one part of a manifest says about another: names that are given twice, names that nothing
// has, and services that wait for each other in a circle.
#pragma once

#include <vector>

#include "manifest/diagnostics.h"
#include "manifest/manifest.h"
#include "manifest/service_section.h"

namespace vibe::manifest {

void CheckReferences(const Manifest& app, const std::vector<ReadService>& services,
                     Diagnostics& diagnostics);

}  // namespace vibe::manifest
