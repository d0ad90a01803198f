// Keeps host ports in step with what runs in the machine, whoever started or ended it: after a
// restart of vibed, a crash of a service, a reboot of the machine. One thread, owned here.
#pragma once

#include <thread>

#include "host/cancellation.h"
#include "host/port_forwarder.h"
#include "host/projects.h"
#include "host/supervisor_client.h"
#include "vm/machine.h"

namespace vibe::host {

class ProjectWatch {
 public:
  // All outlive it.
  ProjectWatch(Projects& projects, vm::Machine& machine, SupervisorClient& supervisor,
               PortForwarder& ports);
  ~ProjectWatch();

 private:
  void Run();

  Projects& projects_;
  vm::Machine& machine_;
  SupervisorClient& supervisor_;
  PortForwarder& ports_;
  Cancellation stop_;
  std::thread thread_;
};

}  // namespace vibe::host
