// What the user allowed: recorded, and true at once of what runs.
#include "base/status.h"
#include "supervisor/project_view.h"
#include "supervisor/supervisor.h"

namespace vibe::supervisor {

absl::StatusOr<v1::Project> Supervisor::SetGrants(const std::string& id, const v1::Grants& grants) {
  VIBE_RETURN_IF_ERROR(Record(id).status());
  const std::shared_ptr<Entry> entry = EntryOf(id);
  absl::MutexLock operation(&entry->operation);
  VIBE_ASSIGN_OR_RETURN(ProjectRecord record, Record(id));
  record.grants = ToGrants(grants);
  working_room_.Make();  // a full disk is no reason to go on allowing something
  VIBE_ASSIGN_OR_RETURN(record, store_->Put(record));
  VIBE_RETURN_IF_ERROR(ApplyGrants(record));
  Publish(id);
  return View(record);
}

absl::Status Supervisor::ApplyGrants(const ProjectRecord& record) {
  VIBE_ASSIGN_OR_RETURN(const Plan plan, PlanOf(record));
  firewall_.SetInternet(record.id, plan.internet);
  if (const auto runtime = RuntimeOf(record.id)) {
    runtime->SetExposePorts(plan.expose_ports);
  }
  return firewall_.Apply();
}

absl::Status Supervisor::ForgetFirewall(const std::string& id) {
  firewall_.Forget(id);
  return firewall_.Apply();
}

}  // namespace vibe::supervisor
