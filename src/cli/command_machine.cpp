#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/long_call.h"
#include "cli/machine.h"

namespace vibe::cli {
namespace {

absl::StatusOr<int> Show(Session& session, absl::string_view label, const ApiRequest& request) {
  VIBE_ASSIGN_OR_RETURN(const Json machine, session.Run(label, request));
  session.Print(RenderMachine(machine, session.out().color), machine);
  return kExitOk;
}

}  // namespace

absl::StatusOr<int> RunMachineStatus(Session& session, const Invocation&) {
  ApiRequest request;
  request.target = "/v1/machine";
  return Show(session, "asking for the machine", request);
}

absl::StatusOr<int> RunMachineStart(Session& session, const Invocation&) {
  return Show(session, "starting the machine",
              LongCall("POST", "/v1/machine/start", Json::object()));
}

absl::StatusOr<int> RunMachineStop(Session& session, const Invocation&) {
  return Show(session, "stopping the machine",
              LongCall("POST", "/v1/machine/stop", Json::object()));
}

}  // namespace vibe::cli
