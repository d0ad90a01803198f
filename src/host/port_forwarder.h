// The host ports of running projects: TCP and UDP, on 127.0.0.1 and ::1, whose connections and
// datagrams are carried into the machine, to (project, service, port). A port is first reserved
// (nobody else can have it, connections are refused) and then opened, when the service answers.
//
// Thread-safe. A few threads carry any number of connections; none of them waits for the machine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "relay/stream_header.h"

namespace vibe::host {

struct ForwardedPort {
  std::string service;
  uint16_t container_port = 0;
  uint16_t host_port = 0;  // 0: any that is free
  relay::Protocol protocol = relay::Protocol::kTcp;
};

// What went through a port since it was reserved.
struct PortTraffic {
  ForwardedPort port;
  uint64_t connections = 0;       // of UDP: flows, one for each client address
  uint32_t open_connections = 0;  // of those
  uint64_t bytes_in = 0;          // from clients to the service
  uint64_t bytes_out = 0;
};

class PortForwarder {
 public:
  // A new connection to the machine's forward port. May block; called by several threads.
  using Dial = std::function<absl::StatusOr<UniqueFd>()>;

  explicit PortForwarder(Dial dial);
  ~PortForwarder();  // closes everything, connections too

  // Makes `ports` the ports of the project: reserves those that it does not hold yet, lets go of
  // others and resets what is open there, and fills in host ports that were 0, none of them from
  // `avoid`. PORT_CONFLICT names the port, the service and, where it can be found out, who has it;
  // then the project holds what it held before.
  absl::Status Reserve(const std::string& project_id, std::vector<ForwardedPort>& ports,
                       const std::set<uint16_t>& avoid);
  // The same, but for ports that cannot be had: the project holds the others, and the first
  // PORT_CONFLICT is returned.
  absl::Status ReserveWhatIsFree(const std::string& project_id, std::vector<ForwardedPort>& ports,
                                 const std::set<uint16_t>& avoid);
  // Whether Reserve can have the host ports of `ports` that are not 0 now. Changes nothing.
  absl::Status Check(const std::string& project_id, const std::vector<ForwardedPort>& ports) const;
  // Lets connections in on all that the project holds. Opening twice is harmless.
  absl::Status Open(const std::string& project_id);
  // Lets go of the project's ports. Connections that are there go on until the service ends them.
  void Close(const std::string& project_id);
  void CloseAll();

  // Whether the project holds all ports that were last asked for, and lets connections in on them.
  bool IsOpen(const std::string& project_id) const;

  // Of the ports that the project holds.
  std::vector<PortTraffic> Traffic(const std::string& project_id) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vibe::host
