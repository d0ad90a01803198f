// grant and revoke: what the user said of a project's capabilities, said anew.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "cli/capabilities.h"
#include "cli/commands.h"
#include "cli/long_call.h"
#include "cli/project.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

absl::StatusOr<int> Decide(Session& session, const Invocation& invocation, bool allowed) {
  Json body = Json::object();
  for (const std::string& name : invocation.words) {
    if (!IsCapability(name)) {
      return WithAdvice(
          absl::InvalidArgumentError(absl::StrCat("there is no capability ", Escape(name))),
          absl::StrCat("name one or more of ", absl::StrJoin(CapabilityNames(), ", ")));
    }
    body[name] = allowed;
  }
  const ApiRequest request =
      LongCall("POST", ProjectTarget(invocation.name, "/decisions"), std::move(body));
  VIBE_ASSIGN_OR_RETURN(
      const Json project,
      session.Run(absl::StrCat("telling ", invocation.name, " what it may do"), request));
  const std::string wishes = absl::StrJoin(invocation.words, allowed ? " and " : " or ",
                                           [](std::string* out, const std::string& name) {
                                             absl::StrAppend(out, DescribeCapability(name));
                                           });
  const Project told = ParseProject(project);
  session.Print(absl::StrCat(Escape(told.name), allowed ? " may " : " may not ", wishes, "\n",
                             told.message.empty() ? "" : absl::StrCat(Escape(told.message), "\n")),
                project);
  return kExitOk;
}

}  // namespace

absl::StatusOr<int> RunGrant(Session& session, const Invocation& invocation) {
  return Decide(session, invocation, true);
}

absl::StatusOr<int> RunRevoke(Session& session, const Invocation& invocation) {
  return Decide(session, invocation, false);
}

}  // namespace vibe::cli
