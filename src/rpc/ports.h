// The machine's ports, as VirtualMachine::Dial takes them.
#pragma once

#include <cstdint>

namespace vibe::rpc {

inline constexpr uint32_t kSupervisorPort = 1024;  // gRPC, proto/vibe/v1/supervisor.proto
inline constexpr uint32_t kForwardPort = 1025;  // forwarded connections, src/relay/stream_header.h

}  // namespace vibe::rpc
