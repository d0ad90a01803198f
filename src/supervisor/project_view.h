// What the outside sees of a project: values of the contract made from records, plans and states.
// Pure.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"
#include "supervisor/plan.h"
#include "supervisor/project_runtime.h"
#include "supervisor/project_store.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::supervisor {

google::protobuf::Timestamp ToTimestamp(absl::Time time);

ProjectGrants ToGrants(const v1::Grants& grants);

// `plan` may be null (a manifest that this version cannot read); `states` are empty for one that
// never ran since the supervisor started.
v1::Project ProjectView(const ProjectRecord& record, const Plan* plan,
                        const std::vector<ServiceState>& states);

// The states of the services of `ran`, in the order of `plan`: those that are not in both are left
// out.
std::vector<ServiceState> StatesOf(const Plan& plan, const Plan& ran,
                                   const std::vector<ServiceState>& states);

// Running when all run, failed when one failed, else the busiest state that there is.
v1::Status Overall(const std::vector<ServiceState>& states);

// Whether a service runs, or is about to.
bool AnyActive(const std::vector<ServiceState>& states);

// NOT_FOUND that lists the services that there are.
absl::Status NoService(const Plan& plan, const std::string& service);

}  // namespace vibe::supervisor
