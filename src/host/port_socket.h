// The sockets of one host port: on 127.0.0.1, and on ::1 where this computer has that. Thread-safe.
#pragma once

#include <cstdint>

#include "base/unique_fd.h"
#include "relay/stream_header.h"

namespace vibe::host {

struct PortSockets {
  UniqueFd ipv4, ipv6;  // the second may be none
};

// Binds both, and listens on neither. 0, or an errno: EADDRINUSE when one of them is taken.
int BindPort(uint16_t port, relay::Protocol protocol, PortSockets& sockets);

}  // namespace vibe::host
