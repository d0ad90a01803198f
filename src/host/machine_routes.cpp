#include "host/machine_routes.h"

#include <optional>
#include <utility>

#include "base/status.h"
#include "host/machine_log.h"
#include "host/machine_view.h"

namespace vibe::host {
namespace {

using nlohmann::json;

template <typename Response>
std::optional<Response> IfOk(absl::StatusOr<Response> response) {
  return response.ok() ? std::optional<Response>(*std::move(response)) : std::nullopt;
}

// After a start, which ended with the supervisor's answer: asking again would make the way from a
// save to that answer half as long again.
json Started(const ApiWorld& world) {
  return MachineJson(world.machine, world.machine_reason, world.supervisor.LastHealth(),
                     std::nullopt);
}

json Now(const ApiWorld& world) {
  const vm::MachineState state = world.machine.status().state;
  if (state != vm::MachineState::kReady && state != vm::MachineState::kBusy) {
    return MachineJson(world.machine, world.machine_reason, std::nullopt, std::nullopt);
  }
  return MachineJson(world.machine, world.machine_reason, IfOk(world.supervisor.Health()),
                     IfOk(world.supervisor.DiskUsage()));
}

// So that the next start goes on where the machine was, where that can be.
absl::Status Suspend(const ApiWorld& world, const ProgressSink& progress) {
  progress({"stop", "", "machine", 0, 0, ""});
  world.projects.Interrupt("machine stop");
  const auto prepare = [&world]() -> absl::Status {
    VIBE_RETURN_IF_ERROR(RequestSync(world.supervisor));
    return world.network.Forget();
  };
  VIBE_RETURN_IF_ERROR(
      world.machine.Suspend(prepare, [&world] { return RequestShutdown(world.supervisor); }));
  world.ports.CloseAll();
  return absl::OkStatus();
}

absl::Status PowerOff(const ApiWorld& world, const char* operation, const ProgressSink& progress) {
  progress({"stop", "", "machine", 0, 0, ""});
  world.projects.Interrupt(operation);
  VIBE_RETURN_IF_ERROR(world.machine.Stop([&world] { return RequestShutdown(world.supervisor); }));
  world.ports.CloseAll();
  return absl::OkStatus();
}

}  // namespace

std::vector<Route> MachineRoutes(const ApiWorld& world) {
  return {
      Document("GET", "/v1/machine",
               [world](ApiCall& call) -> absl::StatusOr<json> {
                 VIBE_RETURN_IF_ERROR(Bare(call));
                 return Now(world);
               }),
      Stream("POST", "/v1/machine/start",
             [world](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               VIBE_RETURN_IF_ERROR(Bare(call));
               VIBE_RETURN_IF_ERROR(world.projects.EnsureMachine(progress, call.cancel));
               return Started(world);
             }),
      Stream("POST", "/v1/machine/stop",
             [world](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               const bool off = call.body.Bool("off").value_or(false);
               VIBE_RETURN_IF_ERROR(Bare(call));
               VIBE_RETURN_IF_ERROR(off ? PowerOff(world, "machine stop", progress)
                                        : Suspend(world, progress));
               return Now(world);
             }),
      Stream("POST", "/v1/machine/restart",
             [world](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               VIBE_RETURN_IF_ERROR(Bare(call));
               VIBE_RETURN_IF_ERROR(PowerOff(world, "machine restart", progress));
               VIBE_RETURN_IF_ERROR(world.projects.EnsureMachine(progress, call.cancel));
               return Started(world);
             }),
      {"GET", "/v1/machine/logs",
       LinesHandler([world](ApiCall& call, const JsonSink& sink) -> absl::Status {
         MachineLogOptions options;
         options.follow = call.query.Bool("follow").value_or(false);
         options.tail = call.query.Number("tail", kMaxTail).value_or(options.tail);
         VIBE_RETURN_IF_ERROR(Bare(call));
         return ReadMachineLog(world.machine.ConsoleLog(), options, sink, call.cancel);
       })},
      Document("GET", "/v1/machine/reset",
               [world](ApiCall& call) -> absl::StatusOr<json> {
                 VIBE_RETURN_IF_ERROR(Bare(call));
                 return world.reset.Preview();
               }),
      Stream("POST", "/v1/machine/reset",
             [world](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               VIBE_RETURN_IF_ERROR(Bare(call));
               return world.reset.Run(progress);
             }),
  };
}

}  // namespace vibe::host
