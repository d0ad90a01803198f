#include "host/project_decisions.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "host/project_view.h"
#include "host/projects.h"

namespace vibe::host {
namespace {

void Override(std::optional<bool>& decision, const std::optional<bool>& given) {
  decision = given ? given : decision;
}

}  // namespace

Decisions Merge(Decisions decisions, const Decisions& given) {
  Override(decisions.network, given.network);
  Override(decisions.expose_ports, given.expose_ports);
  Override(decisions.host_file_import, given.host_file_import);
  return decisions;
}

v1::Grants GrantsOf(const Decisions& decisions) {
  v1::Grants grants;
  grants.set_network(decisions.network.value_or(false));
  grants.set_expose_ports(decisions.expose_ports.value_or(false));
  grants.set_host_file_import(decisions.host_file_import.value_or(false));
  return grants;
}

bool SameGrants(const v1::Grants& a, const v1::Grants& b) {
  return a.network() == b.network() && a.expose_ports() == b.expose_ports() &&
         a.host_file_import() == b.host_file_import();
}

absl::Status CheckAskedFor(const manifest::Manifest& manifest, const Decisions& given) {
  const nlohmann::json wanted = CapabilitiesJson(manifest, {});
  const std::pair<const char*, bool> granted[] = {
      {"network", given.network.value_or(false)},
      {"exposePorts", given.expose_ports.value_or(false)},
      {"hostFileImport", given.host_file_import.value_or(false)}};
  for (const auto& [name, allowed] : granted) {
    bool asked = !allowed;
    for (const nlohmann::json& capability : wanted) {
      asked = asked || capability["capability"] == name;
    }
    if (!asked) {
      return WithAdvice(
          absl::FailedPreconditionError(absl::StrCat(manifest.name, " does not ask for ", name)),
          "only what the app's manifest asks for can be allowed");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckDecisions(const Library& library, SupervisorClient& supervisor, bool tell) {
  if (library.All().empty()) {
    return absl::OkStatus();
  }
  Cancellation never;
  VIBE_ASSIGN_OR_RETURN(const auto projects, supervisor.ListProjects(never));
  for (const v1::Project& project : projects) {
    const absl::StatusOr<ProjectRecord> record = library.Find(project.id());
    if (!record.ok() || SameGrants(project.grants(), GrantsOf(record->decisions))) {
      continue;
    }
    const absl::Status told = tell
                                  ? supervisor.TrySetGrants(record->id, GrantsOf(record->decisions))
                                  : absl::UnavailableError("not told yet");
    VIBE_RETURN_IF_ERROR(Annotate(told, absl::StrCat("what was decided about ", record->name)));
  }
  return absl::OkStatus();
}

absl::StatusOr<Projects::Json> Projects::Decide(const std::string& ref, const Decisions& decisions,
                                                Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(ProjectRecord record, world_.library.Find(ref));
  VIBE_ASSIGN_OR_RETURN(const auto held, Lock(record.name, "grant", cancel));
  VIBE_ASSIGN_OR_RETURN(record, world_.library.Find(record.id));
  // An app whose folder is gone, or holds another version, can be refused things, and allowed what
  // it asked for at last.
  if (const auto app = AppFolder::Open(record.path);
      app.ok() && app->manifest().version == record.app_version) {
    VIBE_RETURN_IF_ERROR(CheckAskedFor(app->manifest(), decisions));
  }
  record.decisions = Merge(record.decisions, decisions);
  VIBE_RETURN_IF_ERROR(world_.library.Put(record));
  if (!MachineIsUp()) {
    return View(record, nullptr, "");
  }
  VIBE_ASSIGN_OR_RETURN(const std::optional<v1::Project> live, FindLive(record.id, cancel));
  if (!live) {
    return View(record, nullptr, "");
  }
  VIBE_ASSIGN_OR_RETURN(const v1::Project changed,
                        world_.supervisor.SetGrants(record.id, GrantsOf(record.decisions), cancel));
  MatchPorts(record, changed);
  return ViewNow(record.id, changed);
}

}  // namespace vibe::host
