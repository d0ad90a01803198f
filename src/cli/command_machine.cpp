#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/log_stream.h"
#include "cli/long_call.h"
#include "cli/machine.h"

namespace vibe::cli {
namespace {

constexpr char kResetWord[] = "reset";

absl::StatusOr<int> Show(Session& session, absl::string_view label, const ApiRequest& request) {
  VIBE_ASSIGN_OR_RETURN(const Json machine, session.Run(label, request));
  session.Print(RenderMachine(machine, session.out().color), machine);
  session.NoteDisk(machine);
  return kExitOk;
}

absl::Status ConfirmReset(Session& session, const std::string& loss) {
  if (!session.CanAsk()) {
    return WithAdvice(
        absl::FailedPreconditionError(absl::StrCat("cannot ask whether to reset the machine, which "
                                                   "would delete ",
                                                   loss, ": this is not a terminal")),
        "say --yes to reset it without a question");
  }
  VIBE_ASSIGN_OR_RETURN(
      const bool agreed,
      session.AskForWord(absl::StrCat("This deletes ", loss, ". There is no way back.\nType \"",
                                      kResetWord, "\" to go on:"),
                         kResetWord));
  return agreed ? absl::OkStatus()
                : WithAdvice(absl::CancelledError("the machine was not reset"),
                             absl::StrCat("type ", kResetWord, " to reset it"));
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

absl::StatusOr<int> RunMachineStop(Session& session, const Invocation& invocation) {
  Json body = Json::object();
  if (invocation.off) {
    body["off"] = true;
  }
  return Show(session, "stopping the machine",
              LongCall("POST", "/v1/machine/stop", std::move(body)));
}

absl::StatusOr<int> RunMachineRestart(Session& session, const Invocation&) {
  return Show(session, "restarting the machine",
              LongCall("POST", "/v1/machine/restart", Json::object()));
}

absl::StatusOr<int> RunMachineLogs(Session& session, const Invocation& invocation) {
  LogQuery query;
  query.target =
      absl::StrCat("/v1/machine/logs?", LogParameters(invocation.tail, invocation.follow));
  query.follow = invocation.follow;
  return ShowLog(session, query, [&](ApiClient&) -> absl::StatusOr<LineRenderer> {
    const bool escape = session.out().terminal;
    return LineRenderer([escape](const Json& record) { return RenderMachineLine(record, escape); });
  });
}

absl::StatusOr<int> RunMachineReset(Session& session, const Invocation& invocation) {
  if (!invocation.yes) {
    ApiRequest look;
    look.target = "/v1/machine/reset";
    VIBE_ASSIGN_OR_RETURN(const Json loss, session.Run("asking what would go", look));
    VIBE_RETURN_IF_ERROR(ConfirmReset(session, DescribeLoss(loss)));
  }
  VIBE_ASSIGN_OR_RETURN(
      const Json gone,
      session.Run("resetting the machine", LongCall("POST", "/v1/machine/reset", Json::object())));
  session.Print(absl::StrCat("The machine is reset: deleted ", DescribeLoss(gone), "\n"), gone);
  return kExitOk;
}

}  // namespace vibe::cli
