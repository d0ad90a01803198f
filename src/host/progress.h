// What a long operation is doing, as the API reports it (schema Progress). Plain values.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "vibe/v1/supervisor.pb.h"

namespace vibe::host {

struct Progress {
  std::string phase;    // boot, or the machine's phases
  std::string service;  // empty: the whole project
  std::string item;
  uint64_t done = 0;
  uint64_t total = 0;
  std::string unit;
};

// Called on the thread that runs the operation.
using ProgressSink = std::function<void(const Progress&)>;

Progress FromProto(const v1::Progress& progress);
// Passes on what the machine says; `progress` outlives it.
std::function<void(const v1::Progress&)> Forward(const ProgressSink& progress);
nlohmann::json ProgressJson(const Progress& progress);

}  // namespace vibe::host
