// What is asked of the supervisor without changing a project.
#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "supervisor/machine_clock.h"
#include "supervisor/project_view.h"
#include "supervisor/supervisor.h"
#include "supervisor/version.h"

namespace vibe::supervisor {
namespace {

// A health check that takes longer than this is a bad sign in itself.
constexpr absl::Duration kProbeTimeout = absl::Milliseconds(500);
constexpr absl::Duration kProbeFresh = absl::Seconds(1);

}  // namespace

absl::StatusOr<v1::ResolvePortsResponse> Supervisor::ResolvePorts(const std::string& id) {
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, Record(id));
  VIBE_ASSIGN_OR_RETURN(const Plan plan, PlanOf(record));
  v1::ResolvePortsResponse response;
  for (const PlannedService& service : plan.services) {
    for (const manifest::Port& port : service.ports) {
      auto* resolved = response.add_ports();
      resolved->set_service(service.name);
      resolved->set_container_port(port.container);
      resolved->set_protocol(port.protocol == manifest::Protocol::kTcp ? v1::PROTOCOL_TCP
                                                                       : v1::PROTOCOL_UDP);
      resolved->set_address(service.ipv4);
      resolved->set_expose(plan.expose_ports && port.host_exposure == manifest::Exposure::kAuto);
    }
  }
  return response;
}

absl::StatusOr<Supervisor::Target> Supervisor::ForwardTarget(const relay::StreamHeader& header) {
  const std::string& service = header.service;
  const uint16_t port = header.port;
  const manifest::Protocol protocol = header.protocol == relay::Protocol::kUdp
                                          ? manifest::Protocol::kUdp
                                          : manifest::Protocol::kTcp;
  bool recovering = false;
  {
    absl::MutexLock lock(&mutex_);
    recovering = recovering_.count(header.project_id) > 0;
  }
  const auto not_running = [&] {
    return recovering ? absl::UnavailableError("the project is being taken over")
                      : Error(absl::StatusCode::kFailedPrecondition, Reason::kNotRunning,
                              absl::StrCat("service ", service, " does not run"));
  };
  const std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(header.project_id);
  if (runtime == nullptr) {
    return not_running();
  }
  const Plan& plan = runtime->plan();
  for (size_t index = 0; index < plan.services.size(); ++index) {
    const PlannedService& planned = plan.services[index];
    if (planned.name != service) {
      continue;
    }
    const bool exposed =
        runtime->exposes_ports() &&
        std::any_of(planned.ports.begin(), planned.ports.end(), [&](const manifest::Port& known) {
          return known.container == port && known.protocol == protocol &&
                 known.host_exposure == manifest::Exposure::kAuto;
        });
    if (!exposed) {
      break;
    }
    if (runtime->services()[index].status != v1::STATUS_RUNNING) {
      return not_running();
    }
    return Target{{planned.ipv4, planned.ipv6}, port};
  }
  return absl::PermissionDeniedError(
      absl::StrCat("port ", port, " of service ", service, " is not exposed"));
}

absl::StatusOr<std::vector<std::pair<std::string, std::filesystem::path>>> Supervisor::LogFiles(
    const std::string& id, const std::string& service) {
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, Record(id));
  VIBE_ASSIGN_OR_RETURN(const Plan plan, PlanOf(record));
  std::vector<std::pair<std::string, std::filesystem::path>> files;
  for (const PlannedService& planned : plan.services) {
    if (service.empty() || service == planned.name) {
      files.emplace_back(planned.name,
                         options_.data / "logs" / id / absl::StrCat(planned.name, ".log"));
    }
  }
  if (files.empty()) {
    return NoService(plan, service);
  }
  return files;
}

absl::StatusOr<Supervisor::RunningContainer> Supervisor::FindRunning(const std::string& id,
                                                                     const std::string& service) {
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, Record(id));
  VIBE_ASSIGN_OR_RETURN(const Plan plan, PlanOf(record));
  if (service.empty() && plan.services.size() != 1) {
    return WithAdvice(absl::InvalidArgumentError(absl::StrCat("project ", record.name, " has ",
                                                              plan.services.size(), " services")),
                      "say which one with -s SERVICE");
  }
  const std::string name = service.empty() ? plan.services[0].name : service;
  const auto known = std::any_of(plan.services.begin(), plan.services.end(),
                                 [&](const auto& planned) { return planned.name == name; });
  if (!known) {
    return NoService(plan, name);
  }
  const std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(id);
  if (runtime != nullptr) {
    const std::vector<ServiceState> states = runtime->services();
    for (size_t index = 0; index < states.size(); ++index) {
      const PlannedService& planned = runtime->plan().services[index];
      const ServiceState& state = states[index];
      // One that does not get ready is the one that somebody wants to look into.
      const bool is_starting = state.status == v1::STATUS_STARTING && state.created &&
                               state.started_at != absl::InfinitePast() && !state.exit_code;
      if (planned.name == name && (state.status == v1::STATUS_RUNNING || is_starting)) {
        return RunningContainer{plan.containerd_namespace, planned.container_id};
      }
    }
  }
  return WithAdvice(WithService(Error(absl::StatusCode::kFailedPrecondition, Reason::kNotRunning,
                                      absl::StrCat("service ", name, " does not run")),
                                name),
                    absl::StrCat("start it with `vibe start ", record.name, "`"));
}

// An answer of a moment ago will do. A saved machine that goes on is asked at once, and was asked
// just before it was saved: asking containerd too would take as long as all the rest of the answer.
absl::StatusOr<std::string> Supervisor::ContainerdVersion() {
  const auto steady = [] {
    return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
  };
  {
    absl::MutexLock lock(&mutex_);
    if (steady() - containerd_asked_ < kProbeFresh) {
      return containerd_version_;
    }
  }
  absl::StatusOr<std::string> version = containerd_.Probe(kProbeTimeout);
  absl::MutexLock lock(&mutex_);
  containerd_version_ = version;
  containerd_asked_ = steady();
  return version;
}

v1::HealthResponse Supervisor::Health() {
  v1::HealthResponse health;
  health.set_version(kVersion);
  if (const auto version = ContainerdVersion(); version.ok()) {
    health.set_containerd_ok(true);
    health.set_containerd_version(*version);
  }
  *health.mutable_started_at() = ToTimestamp(started_at_);
  *health.mutable_time() = ToTimestamp(MachineTime());
  const SpaceReport space = Space();
  health.set_disk_warning(space.warning);
  health.set_disk_full(space.level == SpaceLevel::kFull);
  return health;
}

}  // namespace vibe::supervisor
