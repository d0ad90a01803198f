// What ProjectRuntime has to do with saves and restores, beyond starting and stopping.
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "spdlog/spdlog.h"
#include "supervisor/project_runtime.h"

namespace vibe::supervisor {
namespace {

// The value of a variable that a container was made with.
std::optional<std::string> VariableOf(const nlohmann::json& environment, const std::string& name) {
  const std::string beginning = name + "=";
  for (const nlohmann::json& variable : environment) {
    if (variable.is_string()) {
      const std::string& text = variable.get_ref<const std::string&>();
      if (text.compare(0, beginning.size(), beginning) == 0) {
        return text.substr(beginning.size());
      }
    }
  }
  return std::nullopt;
}

}  // namespace

absl::Status ProjectRuntime::RunHook(size_t service, HookKind kind, absl::Duration limit,
                                     const std::function<bool()>& cancelled) {
  return supervisor::RunHook({.containerd = platform_.containerd,
                              .exec_directory = files_.exec_directory,
                              .run_directory = files_.run_directory},
                             plan_, plan_.services.at(service), kind, limit, cancelled);
}

absl::Status ProjectRuntime::FinishRestore(const ProgressSink& progress,
                                           const std::function<bool()>& cancelled) {
  absl::MutexLock operation(&operation_);
  absl::Status status = FinishRestoreLocked(progress, cancelled);
  if (!status.ok()) {
    UndoStart();
  }
  return status;
}

absl::Status ProjectRuntime::FinishRestoreLocked(const ProgressSink& progress,
                                                 const std::function<bool()>& cancelled) {
  std::error_code error;
  if (!std::filesystem::exists(files_.restored_mark, error)) {
    return absl::OkStatus();
  }
  for (size_t index = 0; index < plan_.services.size(); ++index) {
    const PlannedService& service = plan_.services[index];
    if (!service.hooks.post_restore) {
      continue;
    }
    if (services()[index].status != v1::STATUS_RUNNING) {
      spdlog::warn("the postRestore hook of {}/{} is not run: the service does not run",
                   plan_.project_name, service.name);
      continue;
    }
    v1::Progress event;
    event.set_phase(v1::Progress::PHASE_HOOK);
    event.set_service(service.name);
    event.set_item(HookName(HookKind::kPostRestore));
    progress(event);
    const absl::Time begun = absl::Now();
    absl::Status status =
        RunHook(index, HookKind::kPostRestore, absl::InfiniteDuration(), cancelled);
    spdlog::info("the postRestore hook of {}/{} took {}", plan_.project_name, service.name,
                 absl::FormatDuration(absl::Now() - begun));
    if (absl::IsCancelled(status)) {
      return status;
    }
    if (!status.ok()) {
      Update(static_cast<int>(index), [&](ServiceState& state) {
        state.status = v1::STATUS_FAILED;
        state.message = std::string(status.message());
      });
      return WithAdvice(
          WithReason(std::move(status), Reason::kStartFailed),
          absl::StrCat("mend the hook, or do without it: `vibe restore ", plan_.project_name,
                       " ID --skip-hooks` with the snapshot's id, then `vibe start ",
                       plan_.project_name, "`"));
    }
  }
  // Until it is gone the hooks run again: they are told to expect that.
  VIBE_RETURN_IF_ERROR(RemoveAll(files_.restored_mark));
  return SyncDirectory(files_.restored_mark.parent_path());
}

absl::StatusOr<std::map<std::string, std::string>> ProjectRuntime::GivenSecrets(
    const std::vector<std::string>& names) {
  std::map<std::string, std::string> secrets;
  const std::vector<ServiceState> states = services();
  for (size_t index = 0; index < states.size() && !names.empty(); ++index) {
    const PlannedService& service = plan_.services[index];
    if (!MayRun(states[index])) {
      continue;
    }
    VIBE_ASSIGN_OR_RETURN(
        const std::string spec,
        SpecOf(platform_.containerd, plan_.containerd_namespace, service.container_id));
    const nlohmann::json document = nlohmann::json::parse(spec, nullptr, false);
    const nlohmann::json environment =
        document.is_object() && document.contains("process") && document["process"].is_object()
            ? document["process"].value("env", nlohmann::json::array())
            : nlohmann::json::array();
    for (const std::string& name : names) {
      const std::optional<std::string> value = VariableOf(environment, name);
      const auto planned = service.env.find(name);
      if (value && (planned == service.env.end() || planned->second != *value)) {
        secrets[name] = *value;
      }
    }
  }
  return secrets;
}

}  // namespace vibe::supervisor
