// What carries one host port into the machine: TCP connections (port_listener.cpp) or UDP datagrams
// (port_datagrams.cpp).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "host/forwarded_connection.h"
#include "host/port_socket.h"
#include "relay/relay.h"
#include "relay/stream_header.h"

namespace vibe::host {

// Of one port since it was reserved. Any thread may read; `a` of the traffic is the client.
struct PortCounters {
  relay::Traffic traffic;
  std::atomic<uint64_t> connections{0};
  std::atomic<uint32_t> open{0};
};

// Outlives the listeners and their connections.
struct PortLanes {
  std::vector<std::unique_ptr<ForwardLane>> lanes;
  std::atomic<int> connections{0};  // of all ports, UDP flows too
};
inline constexpr int kMaxConnections = 8000;  // two descriptors each
// Of one TCP port, so that the clients of one app leave some to the others.
inline constexpr uint32_t kMaxPortConnections = 6000;

// Thread-safe; not to be called by the lanes' own threads.
class PortListener {
 public:
  virtual ~PortListener() = default;
  virtual absl::Status Open() = 0;  // once
  // Return when the port is free. Flows of UDP end with it; connections of TCP go on until either
  // side ends them (Close), or are reset (End).
  virtual void Close() = 0;
  virtual void End() = 0;
};

std::shared_ptr<PortListener> MakePortListener(PortLanes& lanes, PortSockets sockets,
                                               const relay::StreamHeader& target,
                                               std::shared_ptr<PortCounters> counters);

// For MakePortListener, in port_datagrams.cpp.
std::shared_ptr<PortListener> MakeDatagramListener(PortLanes& lanes, PortSockets sockets,
                                                   const relay::StreamHeader& target,
                                                   std::shared_ptr<PortCounters> counters);

}  // namespace vibe::host
