// Who has a port of this computer, for error messages. Best effort; thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "relay/stream_header.h"

namespace vibe::host {

// "nginx (process 123)", or empty when it cannot be found out: the process is another user's, or
// the platform does not tell cheaply.
std::string PortOwner(uint16_t port, relay::Protocol protocol);

}  // namespace vibe::host
