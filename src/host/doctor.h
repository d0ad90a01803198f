// Looks at this computer and this Vibe, and says what is well, what is not, and what to do. Changes
// and boots nothing.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/cancellation.h"
#include "host/library.h"
#include "host/projects.h"
#include "host/supervisor_client.h"
#include "vm/machine.h"

namespace vibe::host {

enum class CheckStatus { kOk, kWarning, kError };

struct HealthCheck {
  std::string name;
  CheckStatus status = CheckStatus::kOk;
  std::string message;
  std::string advice;  // empty when all is well
};

// What the platform needs for the native machine: programs, kernel, rights. Nothing to say
// elsewhere than on Linux.
std::vector<HealthCheck> CheckNativeHost();

// Thread-safe.
class Doctor {
 public:
  // All outlive it. `machine_reason` says why the machine's backend was chosen.
  Doctor(const Library& library, const vm::Machine& machine, SupervisorClient& supervisor,
         const Projects& projects, std::filesystem::path home, std::string machine_reason);

  nlohmann::json Run(Cancellation& cancel) const;  // the schema Doctor

 private:
  HealthCheck CheckMachine() const;
  HealthCheck CheckDisk() const;
  HealthCheck CheckLibrary() const;
  HealthCheck CheckPorts() const;
  std::vector<HealthCheck> CheckSupervisor(Cancellation& cancel) const;

  const Library& library_;
  const vm::Machine& machine_;
  SupervisorClient& supervisor_;
  const Projects& projects_;
  const std::filesystem::path home_;
  const std::string machine_reason_;
};

}  // namespace vibe::host
