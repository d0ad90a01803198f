#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/project.h"

namespace vibe::cli {

absl::StatusOr<int> RunPorts(Session& session, const Invocation& invocation) {
  ApiRequest request;
  request.target = ProjectTarget(invocation.name);
  VIBE_ASSIGN_OR_RETURN(const Json project,
                        session.Run(absl::StrCat("asking for ", invocation.name), request));
  Json ports = Json::array();
  for (const Json& service : ArrayAt(project, "services")) {
    for (Json port : ArrayAt(service, "ports")) {
      port["service"] = StringAt(service, "name");
      ports.push_back(std::move(port));
    }
  }
  Json document;
  document["project"] = StringAt(project, "name");
  document["status"] = StringAt(project, "status");
  document["url"] = StringAt(project, "url");
  document["namedUrl"] = StringAt(project, "namedUrl");
  document["ports"] = std::move(ports);
  session.Print(RenderPorts(ParseProject(project), session.Table()), document);
  return kExitOk;
}

}  // namespace vibe::cli
