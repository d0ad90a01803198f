// This computer in its own network, and how the machine is told of it. The way out of the machine
// leads through this computer, to its own addresses too: the supervisor keeps services from those
// that it was told. docs/network.md
#pragma once

#include <ifaddrs.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "host/supervisor_client.h"
#include "vibe/v1/supervisor.pb.h"
#include "vm/machine.h"

namespace vibe::host {

// Addresses of all interfaces, the loopback's too, but for 127.0.0.0/8, ::1 and link-local ones,
// which no way out of the machine leads to; and the IPv4 ranges around them. Sorted, each once.
// Pure.
v1::HostNetwork HostNetworkOf(const ifaddrs* interfaces);
// The IPv4 routes of Linux's /proc/net/route as "192.0.2.0/24", without the default route. Pure.
std::vector<std::string> RoutedRanges(absl::string_view proc_net_route);
// What this computer has now. Where it can be asked for its routes, their ranges too.
absl::StatusOr<v1::HostNetwork> ReadHostNetwork();

// Tells it whenever the machine is asked for its health: before it counts as ready, and with every
// heartbeat, so that what changes here is known there a moment later. One that boots or wakes is
// told first what was decided while it could not be: until then nobody there has the internet.
// Thread-safe.
class HostNetworkPush {
 public:
  using Read = std::function<absl::StatusOr<v1::HostNetwork>()>;
  using State = std::function<vm::MachineState()>;
  // CheckDecisions, of host/project_decisions.h.
  using Decisions = std::function<absl::Status(bool tell)>;

  // `supervisor` outlives it.
  HostNetworkPush(SupervisorClient& supervisor, State state, Decisions decisions,
                  Read read = ReadHostNetwork);

  // Whether the machine is healthy. That it could not be told is logged and is no matter of its
  // health: no service has the internet there before it knows.
  absl::Status Probe();

  // Before the machine is suspended: it may wake in another network.
  absl::Status Forget();

 private:
  absl::Status Tell() ABSL_EXCLUSIVE_LOCKS_REQUIRED(telling_);

  SupervisorClient& supervisor_;
  const State state_;
  const Decisions decisions_;
  const Read read_;
  absl::Mutex telling_;
  bool decided_ ABSL_GUARDED_BY(telling_) = false;  // the machine knows what was decided
  std::string last_error_ ABSL_GUARDED_BY(telling_);
};

}  // namespace vibe::host
