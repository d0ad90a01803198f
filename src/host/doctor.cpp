#include "host/doctor.h"

#include <algorithm>
#include <iterator>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/status.h"

namespace vibe::host {
namespace {

constexpr double kGiB = 1 << 30;
constexpr double kLowDisk = 2 * kGiB;
constexpr double kNoDisk = 0.2 * kGiB;
constexpr absl::Duration kClockTolerance = absl::Seconds(2);

const char* Word(CheckStatus status) {
  return status == CheckStatus::kOk ? "ok" : status == CheckStatus::kWarning ? "warning" : "error";
}

bool IsUp(vm::MachineState state) {
  return state == vm::MachineState::kReady || state == vm::MachineState::kBusy;
}

HealthCheck Failed(std::string name, const absl::Status& status) {
  return {std::move(name), CheckStatus::kError, std::string(status.message()), AdviceOf(status)};
}

HealthCheck CheckClock(const v1::HealthResponse& health, absl::Time asked, absl::Time answered) {
  const absl::Time machine =
      absl::FromUnixSeconds(health.time().seconds()) + absl::Nanoseconds(health.time().nanos());
  // It was read somewhere between the two.
  const absl::Duration off = machine < asked      ? asked - machine
                             : machine > answered ? machine - answered
                                                  : absl::ZeroDuration();
  const std::string message =
      absl::StrFormat("%.1f s off this computer's", absl::ToDoubleSeconds(off));
  if (off <= kClockTolerance) {
    return {"machine clock", CheckStatus::kOk, message, ""};
  }
  return {"machine clock", CheckStatus::kWarning, message,
          "restart the machine: `vibe machine stop`, then `vibe machine start`"};
}

}  // namespace

Doctor::Doctor(const Library& library, const vm::Machine& machine, SupervisorClient& supervisor,
               const Projects& projects, std::filesystem::path home, std::string machine_reason)
    : library_(library),
      machine_(machine),
      supervisor_(supervisor),
      projects_(projects),
      home_(std::move(home)),
      machine_reason_(std::move(machine_reason)) {}

HealthCheck Doctor::CheckMachine() const {
  const vm::MachineStatus status = machine_.status();
  const std::string what =
      absl::StrCat(status.backend, " (", machine_reason_, "), ", vm::StateName(status.state));
  if (status.state == vm::MachineState::kError) {
    return {"machine", CheckStatus::kError, absl::StrCat(what, ": ", status.error),
            "`vibe machine logs` may say why; `vibe machine start` tries again"};
  }
  if (status.recoveries > 0) {
    return {"machine", CheckStatus::kWarning,
            absl::StrCat(what, "; it was brought back ", status.recoveries,
                         status.recoveries == 1 ? " time, because " : " times, last because ",
                         status.recovery_cause),
            "`vibe machine logs` has what it said"};
  }
  return {"machine", CheckStatus::kOk, what, ""};
}

HealthCheck Doctor::CheckDisk() const {
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(home_, error);
  if (error) {
    return {"disk", CheckStatus::kError, absl::StrCat(home_.string(), ": ", error.message()), ""};
  }
  const auto available = static_cast<double>(space.available);
  HealthCheck check{"disk", CheckStatus::kOk,
                    absl::StrFormat("%.1f GiB free where %s is", available / kGiB, home_.string()),
                    ""};
  if (available < kLowDisk) {
    check.status = available < kNoDisk ? CheckStatus::kError : CheckStatus::kWarning;
    check.advice = "free some space, or set VIBE_HOME to another disk";
  }
  return check;
}

HealthCheck Doctor::CheckLibrary() const {
  if (!library_.broken().empty()) {
    return {"library", CheckStatus::kError, absl::StrJoin(library_.broken(), "; "),
            "mend the file or remove its folder, then restart vibed"};
  }
  return {"library", CheckStatus::kOk, absl::StrCat(library_.All().size(), " projects"), ""};
}

HealthCheck Doctor::CheckPorts() const {
  const std::vector<std::string> problems = projects_.PortProblems();
  return problems.empty()
             ? HealthCheck{"ports", CheckStatus::kOk, "all that are wanted are open", ""}
             : HealthCheck{"ports", CheckStatus::kWarning, absl::StrJoin(problems, "; "),
                           "see `vibe ports NAME`"};
}

std::vector<HealthCheck> Doctor::CheckSupervisor(Cancellation& cancel) const {
  if (!IsUp(machine_.status().state)) {
    return {{"supervisor", CheckStatus::kOk, "not asked, since the machine does not run", ""}};
  }
  const absl::Time asked = absl::Now();
  const absl::StatusOr<v1::HealthResponse> health = supervisor_.Health();
  if (!health.ok()) {
    return {Failed("supervisor", health.status())};
  }
  std::vector<HealthCheck> checks;
  checks.push_back(
      {"supervisor", CheckStatus::kOk, absl::StrCat("version ", health->version()), ""});
  if (health->containerd_ok()) {
    checks.push_back({"containerd", CheckStatus::kOk,
                      absl::StrCat("version ", health->containerd_version()), ""});
  } else {
    checks.push_back({"containerd", CheckStatus::kError, "it does not answer",
                      "wait a moment; then restart the machine with `vibe machine stop` and "
                      "`vibe machine start`"});
  }
  checks.push_back(CheckClock(*health, asked, absl::Now()));
  if (const auto projects = supervisor_.ListProjects(cancel); projects.ok()) {
    std::vector<std::string> strays;
    std::vector<std::string> removals;
    for (const v1::Project& project : *projects) {
      if (!library_.Knows(project.id())) {
        strays.push_back(project.name());
        // Under its name another one may be known.
        removals.push_back(absl::StrCat(
            "`vibe rm ", library_.Find(project.name()).ok() ? project.id() : project.name(), "`"));
      }
    }
    if (!strays.empty()) {
      checks.push_back(
          {"stray projects", CheckStatus::kWarning,
           absl::StrCat("the machine has projects that the library does not: ",
                        absl::StrJoin(strays, ", ")),
           absl::StrCat("if nobody needs their data, remove it: ", absl::StrJoin(removals, ", "))});
    }
  }
  return checks;
}

nlohmann::json Doctor::Run(Cancellation& cancel) const {
  std::vector<HealthCheck> checks = {CheckMachine()};
  const auto add = [&checks](std::vector<HealthCheck> more) {
    std::move(more.begin(), more.end(), std::back_inserter(checks));
  };
  if (machine_.status().backend == "native") {
    add(CheckNativeHost());
  }
  checks.push_back(CheckDisk());
  add(CheckSupervisor(cancel));
  checks.push_back(CheckLibrary());
  checks.push_back(CheckPorts());
  nlohmann::json list = nlohmann::json::array();
  for (const HealthCheck& check : checks) {
    list.push_back({{"name", check.name},
                    {"status", Word(check.status)},
                    {"message", check.message},
                    {"advice", check.advice}});
  }
  return {{"checks", list}};
}

}  // namespace vibe::host
