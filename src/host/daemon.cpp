#include "host/daemon.h"

#include <unistd.h>

#include <utility>

#include "base/status.h"
#include "base/unix_socket.h"
#include "host/api_server.h"
#include "host/clock_push.h"
#include "host/doctor.h"
#include "host/home.h"
#include "host/host_network.h"
#include "host/library.h"
#include "host/machine_reset.h"
#include "host/port_forwarder.h"
#include "host/project_decisions.h"
#include "host/project_watch.h"
#include "host/projects.h"
#include "host/routes.h"
#include "host/supervisor_client.h"
#include "rpc/ports.h"
#include "spdlog/spdlog.h"
#include "vm/machine.h"

namespace vibe::host {

// Built from top to bottom; each may use those above it.
struct Daemon::Parts {
  Parts(std::unique_ptr<Library> projects_library, Options options)
      : home(std::move(options.home)),
        library(std::move(projects_library)),
        reason(std::move(options.backend.reason)),
        supervisor([this] { return machine->Dial(rpc::kSupervisorPort); }),
        network(
            supervisor, [this] { return machine->status().state; },
            [this](bool tell) { return CheckDecisions(*library, supervisor, tell); }),
        machine(std::make_unique<vm::Machine>(
            std::move(options.backend.machine), [this] { return network.Probe(); },
            options.machine)),
        ports([this] { return machine->Dial(rpc::kForwardPort); }),
        projects({*library, *machine, supervisor, ports}),
        reset({*library, *machine, supervisor, ports, projects, home}),
        doctor(*library, *machine, supervisor, projects, home, reason),
        version(std::move(options.version)) {}

  const std::filesystem::path home;
  const std::unique_ptr<Library> library;
  const std::string reason;
  SupervisorClient supervisor;
  HostNetworkPush network;
  // Its thread asks for the supervisor's health, but only when the machine is up: not before Adopt.
  std::unique_ptr<vm::Machine> machine;
  PortForwarder ports;
  Projects projects;
  MachineReset reset;
  const Doctor doctor;
  const std::string version;
  std::unique_ptr<ClockPush> clock;
  std::unique_ptr<ProjectWatch> watch;
  std::unique_ptr<ApiServer> server;
};

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(Options options) {
  VIBE_ASSIGN_OR_RETURN(auto library, Library::Load(options.home / "projects"));
  for (const std::string& broken : library->broken()) {
    spdlog::error("the library has a file that cannot be read: {}", broken);
  }
  auto parts = std::make_unique<Parts>(std::move(library), std::move(options));
  Parts& p = *parts;
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(parts)));
  if (const absl::Status status = p.reset.Finish(); !status.ok()) {
    spdlog::error("{}", status.ToString());
  }
  p.machine->Adopt();
  VIBE_ASSIGN_OR_RETURN(UniqueFd listener, ListenUnix(p.home / kSocketName));
  p.clock = std::make_unique<ClockPush>(*p.machine, p.supervisor);
  p.watch = std::make_unique<ProjectWatch>(p.projects, *p.machine, p.supervisor, p.ports);
  ApiServer::Options serving;
  serving.version = p.version;
  p.server = std::make_unique<ApiServer>(
      std::move(listener),
      MakeRoutes({p.projects, *p.machine, p.supervisor, p.ports, p.network, p.reset, p.doctor,
                  p.reason, p.version, p.home}),
      serving);
  return daemon;
}

Daemon::Daemon(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Daemon::~Daemon() {
  if (parts_->server != nullptr) {
    // From here on a client starts a new vibed.
    ::unlink((parts_->home / kSocketName).c_str());
  }
  parts_->server.reset();
  parts_->watch.reset();
  parts_->clock.reset();
}

}  // namespace vibe::host
