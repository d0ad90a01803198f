// services[].healthcheck, as Compose has it.
#pragma once

#include "manifest/diagnostics.h"
#include "manifest/manifest.h"
#include "manifest/values.h"

namespace vibe::manifest {

Healthcheck ReadHealthcheck(const Value& value, Diagnostics& diagnostics);

}  // namespace vibe::manifest
