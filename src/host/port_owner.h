// Who listens on a TCP port of this computer, for error messages. Best effort; thread-safe.
#pragma once

#include <cstdint>
#include <string>

namespace vibe::host {

// "nginx (process 123)", or empty when it cannot be found out: the process is another user's, or
// the platform does not tell cheaply.
std::string PortOwner(uint16_t port);

}  // namespace vibe::host
