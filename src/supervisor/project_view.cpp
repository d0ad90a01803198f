#include "supervisor/project_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"

namespace vibe::supervisor {

google::protobuf::Timestamp ToTimestamp(absl::Time time) {
  google::protobuf::Timestamp timestamp;
  const int64_t seconds = absl::ToUnixSeconds(time);
  timestamp.set_seconds(seconds);
  timestamp.set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
  return timestamp;
}

ProjectGrants ToGrants(const v1::Grants& grants) {
  return {.network = grants.network(),
          .expose_ports = grants.expose_ports(),
          .host_file_import = grants.host_file_import()};
}

bool AnyActive(const std::vector<ServiceState>& states) {
  return std::any_of(states.begin(), states.end(), [](const ServiceState& state) {
    return MayRun(state) || state.status == v1::STATUS_STOPPING;
  });
}

std::vector<ServiceState> StatesOf(const Plan& plan, const Plan& ran,
                                   const std::vector<ServiceState>& states) {
  std::vector<ServiceState> result(plan.services.size());
  for (size_t to = 0; to < plan.services.size(); ++to) {
    for (size_t from = 0; from < states.size(); ++from) {
      if (ran.services[from].name == plan.services[to].name) {
        result[to] = states[from];
      }
    }
  }
  return result;
}

v1::Status Overall(const std::vector<ServiceState>& states) {
  const auto any = [&](v1::Status status) {
    return std::any_of(states.begin(), states.end(),
                       [&](const ServiceState& state) { return state.status == status; });
  };
  for (const v1::Status status : {v1::STATUS_FAILED, v1::STATUS_STOPPING, v1::STATUS_STARTING}) {
    if (any(status)) {
      return status;
    }
  }
  // A job that is done is stopped while the services around it run.
  return any(v1::STATUS_RUNNING) ? v1::STATUS_RUNNING : v1::STATUS_STOPPED;
}

v1::Project ProjectView(const ProjectRecord& record, const Plan* plan,
                        const std::vector<ServiceState>& states) {
  v1::Project project;
  project.set_id(record.id);
  project.set_name(record.name);
  project.set_app_id(record.app_id);
  project.set_app_version(record.app_version);
  project.set_status(Overall(states));
  project.set_namespace_(NamespaceName(record.app_id, record.id));
  project.set_opened(record.opened);
  v1::Grants& grants = *project.mutable_grants();
  grants.set_network(record.grants.network);
  grants.set_expose_ports(record.grants.expose_ports);
  grants.set_host_file_import(record.grants.host_file_import);
  if (plan == nullptr) {
    return project;
  }
  for (size_t index = 0; index < plan->services.size(); ++index) {
    const PlannedService& planned = plan->services[index];
    const ServiceState state = index < states.size() ? states[index] : ServiceState{};
    v1::ServiceStatus* service = project.add_services();
    service->set_name(planned.name);
    service->set_image(planned.image);
    service->set_status(state.status);
    service->set_restart_count(state.restart_count);
    service->set_message(state.message);
    if (state.created) {
      service->set_container_id(
          absl::StrCat(plan->containerd_namespace, "/", planned.container_id));
    }
    if (state.started_at != absl::InfinitePast() && state.status == v1::STATUS_RUNNING) {
      *service->mutable_started_at() = ToTimestamp(state.started_at);
    }
    if (state.exit_code) {
      service->set_exit_code(*state.exit_code);
    }
    for (const manifest::Port& port : planned.ports) {
      v1::ServicePort* shown = service->add_ports();
      shown->set_container_port(port.container);
      shown->set_protocol(port.protocol == manifest::Protocol::kTcp ? v1::PROTOCOL_TCP
                                                                    : v1::PROTOCOL_UDP);
      shown->set_auto_exposure(port.host_exposure == manifest::Exposure::kAuto);
      shown->set_expose(record.grants.expose_ports &&
                        port.host_exposure == manifest::Exposure::kAuto);
    }
  }
  return project;
}

absl::Status NoService(const Plan& plan, const std::string& service) {
  std::vector<std::string> names;
  for (const PlannedService& planned : plan.services) {
    names.push_back(planned.name);
  }
  return WithAdvice(Error(absl::StatusCode::kNotFound, Reason::kNotFound,
                          absl::StrCat("there is no service ", service)),
                    absl::StrCat("choose one of: ", absl::StrJoin(names, ", ")));
}

}  // namespace vibe::supervisor
