// Begins anew with an empty machine: its data is erased and all projects are forgotten. A crash
// leaves everything as it was, or is finished by the next vibed: $VIBE_HOME/machine/reset.json is
// there from the moment at which there is no way back until all is gone but the deleting.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/library.h"
#include "host/port_forwarder.h"
#include "host/progress.h"
#include "host/projects.h"
#include "host/supervisor_client.h"
#include "vm/machine.h"

namespace vibe::host {

// Thread-safe; one Run at a time, others are told so.
class MachineReset {
 public:
  // All outlive it.
  struct World {
    Library& library;
    vm::Machine& machine;
    SupervisorClient& supervisor;
    PortForwarder& ports;
    Projects& projects;
    std::filesystem::path home;
  };
  explicit MachineReset(World world) : world_(std::move(world)) {}

  // What Run would take away now (the schema Reset). Changes nothing.
  nlohmann::json Preview() const;

  // Ends what works on projects, stops the machine (by force when it does not listen), erases.
  // Returns what is gone. An error after the point of no return says that the rest follows.
  absl::StatusOr<nlohmann::json> Run(const ProgressSink& progress);

  // Finishes what an earlier vibed began. Before the machine is used.
  absl::Status Finish();

 private:
  std::filesystem::path Record() const { return world_.home / "machine" / "reset.json"; }
  absl::Status Erase(const std::vector<std::filesystem::path>& data);

  const World world_;
};

// For Machine::Stop and Suspend: asks the supervisor to stop all projects, or to sync the data
// disk, when it answers. A machine that hangs is not waited for.
absl::Status RequestShutdown(SupervisorClient& supervisor);
absl::Status RequestSync(SupervisorClient& supervisor);

}  // namespace vibe::host
