// What the machine's two services are told. Pure.
#pragma once

#include <string>
#include <vector>

#include "init/programs.h"

namespace vibe::init {

// containerd's configuration: only the plugins that the supervisor uses.
std::string ContainerdConfig();

struct SupervisorOptions {
  bool uplink = false;  // tap0 is there or will be
};
// The program's name first.
std::vector<std::string> SupervisorCommand(const Programs& programs,
                                           const SupervisorOptions& options);

}  // namespace vibe::init
