// Which machine this host gets: decided by the environment variable VIBE_MACHINE ("auto", "native",
// "qemu", "vz") and by the platform. Thread-safe.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "vm/virtual_machine.h"

namespace vibe::vm {

struct BackendOptions {
  std::filesystem::path home;      // VIBE_HOME; the machine's files go below home/machine/<backend>
  std::filesystem::path programs;  // where vibe's programs are; empty: beside the running one
  std::string wanted;              // empty: what VIBE_MACHINE says
};

struct Backend {
  std::unique_ptr<VirtualMachine> machine;
  std::string reason;  // why this one, for `vibe machine status`
};

// Starts no machine; on Linux it may boot a test guest (qemu/host.h). InvalidArgument for a name
// that is none, Unimplemented for a backend that this build or platform does not have.
absl::StatusOr<Backend> MakeBackend(const BackendOptions& options);

}  // namespace vibe::vm
