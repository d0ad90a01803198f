#include "host/snapshot_routes.h"

#include <string>

#include "base/status.h"

namespace vibe::host {
namespace {

using nlohmann::json;

constexpr size_t kMaxLabels = 64;

absl::StatusOr<std::string> Required(const std::optional<std::string>& value, const char* name) {
  if (!value || value->empty()) {
    return absl::InvalidArgumentError(absl::StrCat("the request needs the member ", name));
  }
  return *value;
}

}  // namespace

std::vector<Route> SnapshotRoutes(Projects& projects) {
  return {
      Document("GET", "/v1/projects/{ref}/snapshots",
               [&projects](ApiCall& call) -> absl::StatusOr<json> {
                 VIBE_RETURN_IF_ERROR(Bare(call));
                 VIBE_ASSIGN_OR_RETURN(json list,
                                       projects.Snapshots(call.path["ref"], call.cancel));
                 return json{{"snapshots", std::move(list)}};
               }),
      Stream("POST", "/v1/projects/{ref}/snapshots",
             [&projects](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               SaveOptions options;
               options.message = call.body.String("message").value_or("");
               options.skip_hooks = call.body.Bool("skipHooks").value_or(false);
               for (auto& [key, value] :
                    call.body.StringMap("labels", kMaxLabels)
                        .value_or(std::vector<std::pair<std::string, std::string>>())) {
                 options.labels[key] = value;
               }
               VIBE_RETURN_IF_ERROR(Bare(call));
               return projects.Save(call.path["ref"], options, progress, call.cancel);
             }),
      Stream("DELETE", "/v1/projects/{ref}/snapshots/{snapshot}",
             [&projects](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               VIBE_RETURN_IF_ERROR(Bare(call));
               VIBE_ASSIGN_OR_RETURN(
                   const std::string id,
                   projects.DeleteSnapshot(call.path["ref"], call.path["snapshot"], progress,
                                           call.cancel));
               return json{{"removed", id}};
             }),
      Stream("POST", "/v1/projects/{ref}/restore",
             [&projects](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               RestoreOptions options;
               const auto snapshot = call.body.String("snapshot");
               options.safety = call.body.Bool("safetySnapshot").value_or(true);
               options.verify = call.body.Bool("verify").value_or(false);
               options.skip_hooks = call.body.Bool("skipHooks").value_or(false);
               VIBE_RETURN_IF_ERROR(Bare(call));
               VIBE_ASSIGN_OR_RETURN(options.snapshot, Required(snapshot, "snapshot"));
               return projects.Restore(call.path["ref"], options, progress, call.cancel);
             }),
      Stream("POST", "/v1/projects/{ref}/duplicate",
             [&projects](ApiCall& call, const ProgressSink& progress) -> absl::StatusOr<json> {
               DuplicateOptions options;
               const auto name = call.body.String("name");
               options.snapshot = call.body.String("snapshot").value_or("");
               VIBE_RETURN_IF_ERROR(Bare(call));
               VIBE_ASSIGN_OR_RETURN(options.name, Required(name, "name"));
               return projects.Duplicate(call.path["ref"], options, progress, call.cancel);
             }),
  };
}

}  // namespace vibe::host
