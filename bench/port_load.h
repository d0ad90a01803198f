// clang-format off
// Load on one port, and the server that answers it. A TCP connection begins with one byte that says
// what the server does:
//   e  sends back what comes, until the client ends its sending
//   c  sends back one byte and closes first, as HTTP/1.0 does
//   d  sends until the client closes
//   u  takes all until the client ends its sending, then sends how many bytes it were: 8 bytes, little-endian
//   s  ends its sending, takes all, and prints how that went: "ended after N bytes" or "reset after N bytes"
//   h  takes nothing more, and keeps the connection
//   r  resets the connection
// On UDP the server of the same port sends every datagram back.
// clang-format on
#pragma once

#include <cstdint>
#include <string>

namespace port_load {

[[noreturn]] void Fail(const std::string& what);  // with errno
void RaiseFileLimit();

// Serves both protocols on all addresses of both versions, for ever.
[[noreturn]] void Serve(uint16_t port);

}  // namespace port_load
