#include "host/routes.h"

#include <unistd.h>

#include <utility>

#include "base/status.h"
#include "host/exec_session.h"
#include "host/machine_routes.h"
#include "host/snapshot_routes.h"

namespace vibe::host {
namespace {

using nlohmann::json;

constexpr uint32_t kMaxStopSeconds = 600;
constexpr size_t kMaxCommand = 1000;
constexpr size_t kMaxEnv = 100;

Decisions ReadDecisions(BodyReader& body) {
  Decisions decisions;
  decisions.network = body.Bool("network");
  decisions.expose_ports = body.Bool("exposePorts");
  decisions.host_file_import = body.Bool("hostFileImport");
  return decisions;
}

absl::StatusOr<OpenRequest> ReadOpenRequest(ApiCall& call) {
  OpenRequest request;
  const std::optional<std::string> path = call.body.String("path");
  request.name = call.body.String("name").value_or("");
  const std::vector<std::string> ports =
      call.body.Strings("ports", kMaxPortChoices).value_or(std::vector<std::string>());
  for (const std::string& port : ports) {
    VIBE_ASSIGN_OR_RETURN(request.ports.emplace_back(), ParsePortChoice(port));
  }
  std::optional<BodyReader> decisions = call.body.Object("decisions");
  if (decisions) {
    request.decisions = ReadDecisions(*decisions);
    VIBE_RETURN_IF_ERROR(decisions->Finish());
  }
  VIBE_RETURN_IF_ERROR(Bare(call));
  if (!path) {
    return absl::InvalidArgumentError("the request needs the member path");
  }
  request.path = *path;
  return request;
}

absl::StatusOr<v1::ExecRequest::Start> ReadExecRequest(ApiCall& call) {
  v1::ExecRequest::Start start;
  start.set_service(call.body.String("service").value_or(""));
  const auto command = call.body.Strings("command", kMaxCommand);
  start.set_tty(call.body.Bool("tty").value_or(false));
  start.set_columns(call.body.Number("columns", 65535).value_or(0));
  start.set_rows(call.body.Number("rows", 65535).value_or(0));
  for (const auto& [name, value] :
       call.body.StringMap("env", kMaxEnv)
           .value_or(std::vector<std::pair<std::string, std::string>>())) {
    (*start.mutable_env())[name] = value;
  }
  start.set_working_dir(call.body.String("workingDir").value_or(""));
  start.set_user(call.body.String("user").value_or(""));
  VIBE_RETURN_IF_ERROR(Bare(call));
  if (!command || command->empty()) {
    return absl::InvalidArgumentError("the request needs a command");
  }
  start.mutable_command()->Add(command->begin(), command->end());
  return start;
}

absl::StatusOr<std::optional<uint32_t>> ReadTimeout(ApiCall& call) {
  const std::optional<uint32_t> seconds = call.body.Number("timeoutSeconds", kMaxStopSeconds);
  VIBE_RETURN_IF_ERROR(Bare(call));
  return seconds;
}

std::vector<Route> ProjectRoutes(Projects& projects) {
  return {
      Document("POST", "/v1/inspect",
               [&projects](ApiCall& call) -> absl::StatusOr<json> {
                 const std::optional<std::string> path = call.body.String("path");
                 const std::string name = call.body.String("name").value_or("");
                 VIBE_RETURN_IF_ERROR(Bare(call));
                 if (!path) {
                   return absl::InvalidArgumentError("the request needs the member path");
                 }
                 return projects.Inspect(*path, name, call.cancel);
               }),
      Document("GET", "/v1/projects",
               [&projects](ApiCall& call) -> absl::StatusOr<json> {
                 VIBE_RETURN_IF_ERROR(Bare(call));
                 json list = projects.List(call.cancel);
                 const std::string warning = list.empty() ? "" : projects.DiskWarning();
                 return json{{"projects", std::move(list)},
                             {"kept", projects.ListKept()},
                             {"diskWarning", warning}};
               }),
      Stream("POST", "/v1/projects",
             [&projects](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               VIBE_ASSIGN_OR_RETURN(const OpenRequest request, ReadOpenRequest(call));
               return projects.Open(request, progress, call.cancel);
             }),
      Document("GET", "/v1/projects/{ref}",
               [&projects](ApiCall& call) -> absl::StatusOr<json> {
                 VIBE_RETURN_IF_ERROR(Bare(call));
                 VIBE_ASSIGN_OR_RETURN(json project, projects.Get(call.path["ref"], call.cancel));
                 project["diskWarning"] = projects.DiskWarning();
                 return project;
               }),
      Document("POST", "/v1/projects/{ref}/decisions",
               [&projects](ApiCall& call) -> absl::StatusOr<json> {
                 const Decisions decisions = ReadDecisions(call.body);
                 VIBE_RETURN_IF_ERROR(Bare(call));
                 return projects.Decide(call.path["ref"], decisions, call.cancel);
               }),
      Stream("DELETE", "/v1/projects/{ref}",
             [&projects](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               const bool keep_data = call.query.Bool("keepData").value_or(false);
               VIBE_RETURN_IF_ERROR(Bare(call));
               VIBE_RETURN_IF_ERROR(
                   projects.Remove(call.path["ref"], keep_data, progress, call.cancel));
               return json::object();
             }),
      Stream("POST", "/v1/projects/{ref}/start",
             [&projects](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               VIBE_RETURN_IF_ERROR(Bare(call));
               return projects.Start(call.path["ref"], progress, call.cancel);
             }),
      Stream("POST", "/v1/projects/{ref}/stop",
             [&projects](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               VIBE_ASSIGN_OR_RETURN(const auto timeout, ReadTimeout(call));
               return projects.Stop(call.path["ref"], timeout, progress, call.cancel);
             }),
      Stream("POST", "/v1/projects/{ref}/restart",
             [&projects](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               VIBE_ASSIGN_OR_RETURN(const auto timeout, ReadTimeout(call));
               return projects.Restart(call.path["ref"], timeout, progress, call.cancel);
             }),
      {"GET", "/v1/projects/{ref}/logs",
       LinesHandler([&projects](ApiCall& call, const JsonSink& sink) -> absl::Status {
         LogRequest request;
         request.ref = call.path["ref"];
         request.service = call.query.String("service").value_or("");
         request.follow = call.query.Bool("follow").value_or(false);
         request.tail = call.query.Number("tail", kMaxTail).value_or(request.tail);
         VIBE_RETURN_IF_ERROR(Bare(call));
         return projects.Logs(request, sink, call.cancel);
       })},
      {"POST", "/v1/projects/{ref}/exec",
       ExecHandler([&projects](ApiCall& call, FrameStream& frames) -> absl::Status {
         VIBE_ASSIGN_OR_RETURN(const v1::ExecRequest::Start start, ReadExecRequest(call));
         VIBE_ASSIGN_OR_RETURN(const auto exec,
                               projects.Exec(call.path["ref"], start, call.cancel));
         return RunExec(frames, *exec, call.cancel);
       })},
  };
}

}  // namespace

std::vector<Route> MakeRoutes(const ApiWorld& world) {
  std::vector<Route> routes = ProjectRoutes(world.projects);
  for (Route& route : MachineRoutes(world)) {
    routes.push_back(std::move(route));
  }
  for (Route& route : SnapshotRoutes(world.projects)) {
    routes.push_back(std::move(route));
  }
  routes.push_back(Document("GET", "/v1/doctor", [world](ApiCall& call) -> absl::StatusOr<json> {
    VIBE_RETURN_IF_ERROR(Bare(call));
    return world.doctor.Run(call.cancel);
  }));
  routes.push_back(Document("GET", "/v1/version", [world](ApiCall& call) -> absl::StatusOr<json> {
    VIBE_RETURN_IF_ERROR(Bare(call));
    return json{{"version", world.version},
                {"pid", static_cast<int64_t>(::getpid())},
                {"home", world.home.string()}};
  }));
  return routes;
}

}  // namespace vibe::host
