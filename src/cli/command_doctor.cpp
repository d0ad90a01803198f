#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/error_text.h"
#include "cli/long_call.h"
#include "cli/machine.h"

namespace vibe::cli {
namespace {

// That vibed does not run is a finding like any other: somebody who is in trouble gets the list.
Json FailedCheck(const absl::Status& error) {
  Json check;
  check["name"] = "vibed";
  check["status"] = "error";
  check["message"] = std::string(error.message());
  check["advice"] = AdviceOf(error);
  if (const std::vector<std::string> log = LogOf(error); !log.empty()) {
    check["log"] = log;
  }
  return check;
}

}  // namespace

absl::StatusOr<int> RunDoctor(Session& session, const Invocation&) {
  const absl::StatusOr<Json> answer =
      session.Run("checking this computer", LongCall("GET", "/v1/doctor", std::nullopt));
  if (!answer.ok() && IsInterrupted(answer.status())) {
    return answer.status();
  }
  const Json checks =
      answer.ok() ? ArrayAt(*answer, "checks") : Json::array({FailedCheck(answer.status())});
  session.Print(RenderChecks(checks, session.out().color),
                answer.ok() ? *answer : Json{{"checks", checks}});
  return HasError(checks) ? kExitFailed : kExitOk;
}

}  // namespace vibe::cli
