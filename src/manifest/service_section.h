// services[]: from the tree to values, each with the places that the checks between services need.
#pragma once

#include <string>
#include <vector>

#include "manifest/diagnostics.h"
#include "manifest/manifest.h"
#include "manifest/values.h"

namespace vibe::manifest {

inline constexpr size_t kMaxServices = 20;

struct ReadService {
  Service service;
  Place name;                  // of the service itself when it has no name
  std::vector<Place> aliases;  // one for each of service.aliases
  Place env;
  std::vector<Place> depends_on;  // one for each of service.depends_on
  std::vector<Place> mounts;      // one for each of service.mounts
};

std::vector<ReadService> ReadServices(const Value& value, Diagnostics& diagnostics);

}  // namespace vibe::manifest
