// ProjectRuntime once its services run: taking over what an earlier supervisor started, and
// starting again what ends.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "network/network.h"
#include "spdlog/spdlog.h"
#include "supervisor/machine_clock.h"
#include "supervisor/project_runtime.h"
#include "supervisor/restart_policy.h"
#include "supervisor/service_state_file.h"

namespace vibe::supervisor {

absl::StatusOr<bool> ProjectRuntime::Adopt() {
  absl::MutexLock operation(&operation_);
  VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Task> tasks,
                        platform_.containerd.ListTasks(plan_.containerd_namespace));
  VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Container> containers,
                        platform_.containerd.ListContainers(plan_.containerd_namespace));
  const auto task_of = [&](size_t index) -> const containerd::Task* {
    for (const containerd::Task& task : tasks) {
      if (task.container_id == plan_.services[index].container_id) {
        return &task;
      }
    }
    return nullptr;
  };
  const auto runs = [&](size_t index) {
    const containerd::Task* task = task_of(index);
    return task != nullptr && (task->status == containerd::TaskStatus::kRunning ||
                               task->status == containerd::TaskStatus::kPaused);
  };
  const auto has_container = [&](const PlannedService& service) {
    return std::any_of(containers.begin(), containers.end(),
                       [&](const auto& container) { return container.id == service.container_id; });
  };
  bool any = false;
  for (size_t index = 0; index < plan_.services.size(); ++index) {
    any = any || runs(index);
  }
  // A service without a container was never got to: the start that was under way begins anew.
  if (!any || !std::all_of(plan_.services.begin(), plan_.services.end(), has_container)) {
    if (!containers.empty()) {
      VIBE_RETURN_IF_ERROR(StopLocked(kUndoTimeout, [](const v1::Progress&) {}));
    }
    return false;
  }
  const std::vector<ServiceState> remembered = LoadServiceStates(files_.state_file, plan_);
  absl::MutexLock lock(&mutex_);
  wanted_ = true;
  for (size_t index = 0; index < plan_.services.size(); ++index) {
    states_[index] = remembered[index];
    states_[index].created = true;
    states_[index].ready = true;
    states_[index].exit_code.reset();
    if (runs(index)) {
      states_[index].status = v1::STATUS_RUNNING;
      continue;
    }
    // One that was made but never started has no exit code: it is to run.
    const containerd::Task* task = task_of(index);
    const bool ended = task != nullptr && task->status == containerd::TaskStatus::kStopped;
    ServiceEnded(static_cast<int>(index), ended ? task->exit_code : 1);
  }
  return true;
}

void ProjectRuntime::Resync() {
  const auto tasks = platform_.containerd.ListTasks(plan_.containerd_namespace);
  if (!tasks.ok()) {
    return;  // containerd is down again; the watcher comes back
  }
  for (const containerd::Task& task : *tasks) {
    if (task.status == containerd::TaskStatus::kStopped) {
      OnExit({.ns = plan_.containerd_namespace,
              .container_id = task.container_id,
              .exec_id = task.container_id,
              .exit_code = task.exit_code,
              .exited_at = task.exited_at});
    }
  }
}

void ProjectRuntime::OnExit(const containerd::TaskExit& exit) {
  if (!exit.exec_id.empty() && exit.exec_id != exit.container_id) {
    return;  // a healthcheck or an exec ended
  }
  for (size_t index = 0; index < plan_.services.size(); ++index) {
    if (plan_.services[index].container_id != exit.container_id) {
      continue;
    }
    {
      absl::MutexLock lock(&mutex_);
      if (states_[index].exit_code || exit.exited_at < states_[index].started_at) {
        return;  // known already, or of an earlier run
      }
      ServiceEnded(static_cast<int>(index), exit.exit_code);
    }
    on_change_();
    return;
  }
}

void ProjectRuntime::ServiceEnded(int index, uint32_t exit_code) {
  ServiceState& state = states_[index];
  state.exit_code = exit_code;
  WakeKeeper();
  if (!state.ready || !wanted_) {
    return;  // Start or Stop waits for this and decides
  }
  const auto delay = RestartDelay(plan_.services[index].restart, exit_code, state.restart_count,
                                  MachineTime() - state.started_at);
  if (!delay) {
    state.status = exit_code == 0 ? v1::STATUS_STOPPED : v1::STATUS_FAILED;
    state.message = exit_code == 0 ? "" : absl::StrCat("it exited with code ", exit_code);
    return;
  }
  state.status = v1::STATUS_STARTING;
  state.message = absl::StrCat("it exited with code ", exit_code, " and is started again");
  pending_.push_back({index, absl::Now() + *delay});
}

void ProjectRuntime::Restart(int index) {
  absl::MutexLock operation(&operation_);
  {
    absl::MutexLock lock(&mutex_);
    if (!wanted_ || closing_) {
      return;
    }
    ++states_[index].restart_count;
  }
  absl::Status status = containers_[index]->Recreate();
  if (status.ok()) {
    // Counts as running at once: whoever depends on it is running too and has to cope, as with any
    // peer.
    Update(index, [](ServiceState& state) {
      state.status = v1::STATUS_RUNNING;
      state.started_at = MachineTime();
      state.exit_code.reset();
      state.message.clear();
    });
    status = containers_[index]->Start();
  }
  if (!status.ok()) {
    Update(index, [&](ServiceState& state) {
      mutex_.AssertHeld();
      ServiceEnded(index, 1);
      state.message = std::string(status.message());
    });
  }
}

void ProjectRuntime::WakeKeeper() {
  unsaved_ = true;
  if (!keeping_ && !closing_) {
    keeping_ = keepers_.TryRun([this] { KeepAlive(); });
  }
}

void ProjectRuntime::KeepAlive() {
  mutex_.Lock();
  while (!closing_ && (unsaved_ || !pending_.empty())) {
    if (unsaved_) {
      unsaved_ = false;
      const std::vector<ServiceState> states = states_;
      mutex_.Unlock();
      // What is lost by a failure here is a start time and a count; the next change tries again.
      SaveServiceStates(files_.state_file, plan_, states).IgnoreError();
      mutex_.Lock();
      continue;
    }
    const auto next = std::min_element(pending_.begin(), pending_.end(),
                                       [](const auto& a, const auto& b) { return a.due < b.due; });
    if (next->due > absl::Now()) {
      const absl::Time due = next->due;
      const auto changed = [this, due] {
        mutex_.AssertReaderHeld();
        return closing_ || unsaved_ ||
               std::none_of(pending_.begin(), pending_.end(),
                            [due](const PendingRestart& restart) { return restart.due == due; });
      };
      mutex_.AwaitWithDeadline(absl::Condition(&changed), due);
      continue;
    }
    const int index = next->service;
    pending_.erase(next);
    mutex_.Unlock();
    Restart(index);
    mutex_.Lock();
  }
  keeping_ = false;
  mutex_.Unlock();  // with which this may be gone
}

}  // namespace vibe::supervisor
