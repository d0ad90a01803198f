// Keeps a virtual machine's clock right: it stands still while the machine is paused or this
// computer sleeps, and drifts in between. One thread, owned here.
#pragma once

#include <thread>

#include "host/cancellation.h"
#include "host/supervisor_client.h"
#include "vm/machine.h"

namespace vibe::host {

class ClockPush {
 public:
  // Both outlive it. A machine that shares this computer's clock needs none.
  ClockPush(const vm::Machine& machine, SupervisorClient& supervisor);
  ~ClockPush();

 private:
  void Run();

  const vm::Machine& machine_;
  SupervisorClient& supervisor_;
  Cancellation stop_;
  std::thread thread_;
};

}  // namespace vibe::host
