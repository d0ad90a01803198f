#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/log_lines.h"
#include "cli/log_stream.h"
#include "cli/project.h"

namespace vibe::cli {
namespace {

absl::StatusOr<std::vector<std::string>> ServicesOf(ApiClient& client, const std::string& name) {
  ApiRequest request;
  request.target = ProjectTarget(name);
  VIBE_ASSIGN_OR_RETURN(const Json project, client.Call(request));
  std::vector<std::string> services;
  for (const ProjectService& service : ParseProject(project).services) {
    services.push_back(service.name);
  }
  return services;
}

}  // namespace

absl::StatusOr<int> RunLogs(Session& session, const Invocation& invocation) {
  LogQuery query;
  query.target = ProjectTarget(
      invocation.name, absl::StrCat("/logs?", LogParameters(invocation.tail, invocation.follow)));
  if (!invocation.service.empty()) {
    absl::StrAppend(&query.target, "&service=", PercentEncode(invocation.service));
  }
  query.follow = invocation.follow;
  return ShowLog(session, query, [&](ApiClient& client) -> absl::StatusOr<LineRenderer> {
    VIBE_ASSIGN_OR_RETURN(const std::vector<std::string> services,
                          ServicesOf(client, invocation.name));
    LogStyle style;
    style.prefix = invocation.service.empty();
    style.escape = session.out().terminal;
    style.color = session.out().color;
    const auto renderer = std::make_shared<LogRenderer>(services, style);
    return LineRenderer(
        [renderer](const Json& record) { return renderer->Render(ParseLogLine(record)); });
  });
}

}  // namespace vibe::cli
