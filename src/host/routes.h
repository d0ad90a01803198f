// The routes of docs/api/openapi.yaml: each checks its request and calls what does the work.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "host/doctor.h"
#include "host/host_network.h"
#include "host/machine_reset.h"
#include "host/projects.h"
#include "host/route.h"

namespace vibe::host {

// All outlive the routes.
struct ApiWorld {
  Projects& projects;
  vm::Machine& machine;
  SupervisorClient& supervisor;
  PortForwarder& ports;
  HostNetworkPush& network;
  MachineReset& reset;
  const Doctor& doctor;
  std::string machine_reason;  // why the machine's backend was chosen
  std::string version;
  std::filesystem::path home;
};

std::vector<Route> MakeRoutes(const ApiWorld& world);

}  // namespace vibe::host
