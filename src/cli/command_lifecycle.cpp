// start, stop, restart, rm and ps: one call each.
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/long_call.h"
#include "cli/project.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

absl::StatusOr<int> Change(Session& session, const Invocation& invocation, absl::string_view verb,
                           absl::string_view label) {
  Json body = Json::object();
  if (invocation.timeout) {
    body["timeoutSeconds"] = *invocation.timeout;
  }
  const ApiRequest request =
      LongCall("POST", ProjectTarget(invocation.name, absl::StrCat("/", verb)), std::move(body));
  VIBE_ASSIGN_OR_RETURN(const Json answer,
                        session.Run(absl::StrCat(label, " ", invocation.name), request));
  session.Print(absl::StrCat(DescribeProject(ParseProject(answer)), "\n"), answer);
  return kExitOk;
}

absl::Status Confirm(Session& session, const Invocation& invocation, const std::string& name) {
  if (invocation.yes) {
    return absl::OkStatus();
  }
  const std::string what = absl::StrCat(
      Escape(name), invocation.keep_data ? " (its data is kept)" : " and all its data");
  if (!session.CanAsk()) {
    return WithAdvice(absl::FailedPreconditionError(absl::StrCat("cannot ask whether to remove ",
                                                                 what, ": this is not a terminal")),
                      "say --yes to remove it without a question");
  }
  VIBE_ASSIGN_OR_RETURN(const bool agreed, session.Ask(absl::StrCat("Remove ", what, "?")));
  return agreed ? absl::OkStatus()
                : WithAdvice(absl::CancelledError(absl::StrCat(Escape(name), " was not removed")),
                             "answer y to remove it");
}

}  // namespace

absl::StatusOr<int> RunStart(Session& session, const Invocation& invocation) {
  return Change(session, invocation, "start", "starting");
}

absl::StatusOr<int> RunStop(Session& session, const Invocation& invocation) {
  return Change(session, invocation, "stop", "stopping");
}

absl::StatusOr<int> RunRestart(Session& session, const Invocation& invocation) {
  return Change(session, invocation, "restart", "restarting");
}

absl::StatusOr<int> RunRm(Session& session, const Invocation& invocation) {
  // Asked first, so that nobody confirms the removal of a project that is not there.
  ApiRequest look;
  look.target = ProjectTarget(invocation.name);
  VIBE_ASSIGN_OR_RETURN(const Json found,
                        session.Run(absl::StrCat("looking for ", invocation.name), look));
  const Project project = ParseProject(found);
  // Whoever gives the id may have another project of that name.
  VIBE_RETURN_IF_ERROR(Confirm(session, invocation,
                               invocation.name == project.id
                                   ? absl::StrCat(project.name, " (", project.id, ")")
                                   : project.name));
  // By id: what was confirmed is what is removed, whatever happened to the name meanwhile.
  const ApiRequest request =
      LongCall("DELETE",
               ProjectTarget(project.id,
                             absl::StrCat("?keepData=", invocation.keep_data ? "true" : "false")),
               std::nullopt);
  VIBE_RETURN_IF_ERROR(session.Run(absl::StrCat("removing ", project.name), request).status());
  Json document;
  document["removed"] = project.name;
  document["id"] = project.id;
  document["keptData"] = invocation.keep_data;
  session.Print(
      absl::StrCat(Escape(project.name),
                   invocation.keep_data
                       ? absl::StrCat(" is removed; its data is kept: open the app again to have "
                                      "it back, or delete it with `vibe rm ",
                                      Escape(project.name), "`\n")
                       : " is removed\n"),
      document);
  return kExitOk;
}

absl::StatusOr<int> RunPs(Session& session, const Invocation& invocation) {
  ApiRequest request;
  if (!invocation.name.empty()) {
    request.target = ProjectTarget(invocation.name);
    VIBE_ASSIGN_OR_RETURN(const Json project,
                          session.Run(absl::StrCat("asking for ", invocation.name), request));
    session.Print(RenderProject(ParseProject(project), session.Table()),
                  Json{{"projects", Json::array({project})},
                       {"diskWarning", StringAt(project, "diskWarning")}});
    session.NoteDisk(project);
    return kExitOk;
  }
  request.target = "/v1/projects";
  VIBE_ASSIGN_OR_RETURN(const Json answer, session.Run("asking for the projects", request));
  std::vector<Project> projects;
  for (const Json& project : ArrayAt(answer, "projects")) {
    projects.push_back(ParseProject(project));
  }
  session.Print(absl::StrCat(RenderProjects(projects, session.Table()),
                             DescribeKept(ArrayAt(answer, "kept"))),
                answer);
  session.NoteDisk(answer);
  return kExitOk;
}

}  // namespace vibe::cli
