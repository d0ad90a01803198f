// What the host says of its own network.
#include "base/status.h"
#include "spdlog/spdlog.h"
#include "supervisor/supervisor.h"

namespace vibe::supervisor {

absl::Status Supervisor::SetHostNetwork(const v1::SetHostNetworkRequest& request) {
  absl::Status status;
  if (request.has_network()) {
    const absl::StatusOr<HostFacts> facts = CheckHostNetwork(request.network());
    status = facts.ok() ? host_.Set(*facts) : facts.status();
    if (!facts.ok()) {
      // Where the host is now, nobody knows: what was true before is no wall.
      host_.Forget();
    }
  } else {
    host_.Forget();
  }
  if (!status.ok()) {
    spdlog::error("{}", status.ToString());
  }
  // Also when it is what it was: the tables may have been refused then.
  status.Update(firewall_.Apply());
  return status;
}

}  // namespace vibe::supervisor
