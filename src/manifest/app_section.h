// The top level of the manifest and every section but the services.
#pragma once

#include <optional>
#include <vector>

#include "manifest/diagnostics.h"
#include "manifest/document.h"
#include "manifest/manifest.h"
#include "manifest/service_section.h"

namespace vibe::manifest {

struct ReadApp {
  Manifest manifest;  // services are in `services` still
  std::vector<ReadService> services;
};

ReadApp ReadAppDocument(const TreeNode& root, Diagnostics& diagnostics);

}  // namespace vibe::manifest
