// services[].hooks: commands around snapshots.
#pragma once

#include "manifest/diagnostics.h"
#include "manifest/manifest.h"
#include "manifest/values.h"

namespace vibe::manifest {

Hooks ReadHooks(const Value& value, Diagnostics& diagnostics);

}  // namespace vibe::manifest
