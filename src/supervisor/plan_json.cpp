#include <nlohmann/json.hpp>

#include "supervisor/plan.h"

namespace vibe::supervisor {
namespace {

using Json = nlohmann::ordered_json;

Json ToValue(const PlannedMount& mount) {
  return {{"type", mount.type},
          {"source", mount.source},
          {"target", mount.target},
          {"options", mount.options}};
}

Json ToValue(const manifest::Port& port) {
  return {{"container", port.container},
          {"hostExposure", port.host_exposure == manifest::Exposure::kAuto ? "auto" : "none"},
          {"protocol", port.protocol == manifest::Protocol::kTcp ? "tcp" : "udp"}};
}

Json ToValue(const manifest::Healthcheck& check) {
  return {{"test", check.test},
          {"intervalMs", check.interval_ms},
          {"timeoutMs", check.timeout_ms},
          {"startPeriodMs", check.start_period_ms},
          {"retries", check.retries}};
}

Json ToValue(const std::optional<manifest::Hook>& hook) {
  return hook ? Json{{"command", hook->command}, {"timeoutMs", hook->timeout_ms}} : Json(nullptr);
}

Json ToValue(const PlannedService& service);

template <typename T>
Json ToArray(const std::vector<T>& values) {
  Json array = Json::array();
  for (const T& value : values) {
    array.push_back(ToValue(value));
  }
  return array;
}

const char* RestartName(manifest::Restart restart) {
  switch (restart) {
    case manifest::Restart::kNo:
      return "no";
    case manifest::Restart::kAlways:
      return "always";
    case manifest::Restart::kOnFailure:
      break;
  }
  return "on-failure";
}

Json ToValue(const PlannedService& service) {
  return {{"name", service.name},
          {"aliases", service.aliases},
          {"containerId", service.container_id},
          {"image", service.image},
          {"entrypoint", service.entrypoint},
          {"command", service.command},
          {"env", service.env},
          {"workingDir", service.working_dir},
          {"user", service.user},
          {"directories", service.directories},
          {"mounts", ToArray(service.mounts)},
          {"defaultSettings", ToArray(service.default_settings)},
          {"serviceIndex", service.service_index},
          {"ipv4", service.ipv4},
          {"ipv6", service.ipv6},
          {"netns", service.netns},
          {"ports", ToArray(service.ports)},
          {"dependsOn", service.depends_on},
          {"healthcheck", service.healthcheck ? ToValue(*service.healthcheck) : Json(nullptr)},
          {"hooks",
           {{"preSave", ToValue(service.hooks.pre_save)},
            {"postRestore", ToValue(service.hooks.post_restore)}}},
          {"restart", RestartName(service.restart)},
          {"cpus", service.resources.cpus},
          {"memoryBytes", service.resources.memory_bytes},
          {"cgroup", service.cgroup}};
}

}  // namespace

std::string ToJson(const Plan& plan) {
  const Json json = {{"projectId", plan.project_id},
                     {"projectName", plan.project_name},
                     {"namespace", plan.containerd_namespace},
                     {"networkIndex", plan.network_index},
                     {"internet", plan.internet},
                     {"exposePorts", plan.expose_ports},
                     {"services", ToArray(plan.services)},
                     {"hosts", plan.hosts},
                     {"resolvConf", plan.resolv_conf}};
  // Text that is no UTF-8 must not end the program.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace vibe::supervisor
