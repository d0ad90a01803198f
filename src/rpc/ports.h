// The machine's ports, as VirtualMachine::Dial takes them.
#pragma once

#include <cstdint>

namespace vibe::rpc {

inline constexpr uint32_t kSupervisorPort = 1024;  // gRPC, proto/vibe/v1/supervisor.proto
inline constexpr uint32_t kForwardPort = 1025;  // forwarded connections, src/relay/stream_header.h

// And one of the host, where a resumed guest calls when it can be called.
inline constexpr uint32_t kReadyPort = 1026;

}  // namespace vibe::rpc
