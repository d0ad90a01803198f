#include "supervisor/service_state_file.h"

#include <nlohmann/json.hpp>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/file.h"
#include "base/status.h"
#include "supervisor/machine_clock.h"

namespace vibe::supervisor {
namespace {

constexpr uint64_t kMaxFileBytes = 256 << 10;

const char* StatusName(v1::Status status) {
  switch (status) {
    case v1::STATUS_STARTING:
      return "starting";
    case v1::STATUS_RUNNING:
      return "running";
    case v1::STATUS_STOPPING:
      return "stopping";
    case v1::STATUS_FAILED:
      return "failed";
    default:
      return "stopped";
  }
}

}  // namespace

absl::Status SaveServiceStates(const std::filesystem::path& file, const Plan& plan,
                               const std::vector<ServiceState>& states) {
  nlohmann::ordered_json services = nlohmann::ordered_json::object();
  for (size_t index = 0; index < plan.services.size(); ++index) {
    const ServiceState& state = states[index];
    nlohmann::ordered_json entry{{"status", StatusName(state.status)},
                                 {"restartCount", state.restart_count}};
    if (state.started_at != absl::InfinitePast()) {
      entry["startedAt"] =
          absl::FormatTime(absl::RFC3339_full, state.started_at, absl::UTCTimeZone());
    }
    services[plan.services[index].name] = std::move(entry);
  }
  VIBE_RETURN_IF_ERROR(MakeDirectories(file.parent_path()));
  return ReplaceFile(file, nlohmann::ordered_json{{"services", std::move(services)}}.dump());
}

std::vector<ServiceState> LoadServiceStates(const std::filesystem::path& file, const Plan& plan) {
  std::vector<ServiceState> states(plan.services.size());
  const auto text = ReadFile(file, kMaxFileBytes);
  const nlohmann::json document =
      text.ok() ? nlohmann::json::parse(*text, nullptr, false) : nlohmann::json();
  for (size_t index = 0; index < states.size(); ++index) {
    states[index].started_at = MachineTime();
    if (!document.is_object() || !document.contains("services") ||
        !document["services"].is_object()) {
      continue;
    }
    const auto entry = document["services"].find(plan.services[index].name);
    if (entry == document["services"].end() || !entry->is_object()) {
      continue;
    }
    if (const auto count = entry->find("restartCount");
        count != entry->end() && count->is_number_unsigned()) {
      states[index].restart_count = count->get<uint32_t>();
    }
    if (const auto started = entry->find("startedAt");
        started != entry->end() && started->is_string()) {
      absl::ParseTime(absl::RFC3339_full, started->get<std::string>(), &states[index].started_at,
                      nullptr);
    }
  }
  return states;
}

}  // namespace vibe::supervisor
