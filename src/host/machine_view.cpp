#include "host/machine_view.h"

#include "absl/time/time.h"

namespace vibe::host {

nlohmann::json MachineJson(const vm::Machine& machine, const std::string& reason,
                           const std::optional<v1::HealthResponse>& health,
                           const std::optional<v1::DiskUsageResponse>& disk) {
  const vm::MachineStatus status = machine.status();
  const bool up =
      status.state == vm::MachineState::kReady || status.state == vm::MachineState::kBusy;
  nlohmann::json json{{"state", vm::StateName(status.state)},
                      {"backend", status.backend},
                      {"reason", reason},
                      {"error", status.error},
                      {"readySince", nullptr},
                      {"recoveries", status.recoveries},
                      {"recoveryCause", status.recovery_cause},
                      {"suspended", status.suspended},
                      {"resumed", status.resumed},
                      // That this kind of machine is never saved is nothing to tell.
                      {"saveError", status.can_suspend ? status.save_error : ""},
                      {"supervisorVersion", ""},
                      {"containerdVersion", ""},
                      {"diskWarning", ""},
                      {"disk", nullptr}};
  if (!up) {
    return json;
  }
  json["readySince"] =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", status.ready_since, absl::UTCTimeZone());
  if (health) {
    json["supervisorVersion"] = health->version();
    json["containerdVersion"] = health->containerd_version();
    json["diskWarning"] = health->disk_warning();
  }
  if (disk) {
    json["disk"] = {{"totalBytes", disk->total_bytes()}, {"freeBytes", disk->free_bytes()}};
    json["diskWarning"] = disk->disk_warning();  // of the same instant
  }
  return json;
}

}  // namespace vibe::host
