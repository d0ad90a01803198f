// What brings projects back after a crash or a boot, what notices that a service ended, and the end
// of it all.
#include <unistd.h>

#include <algorithm>
#include <future>

#include "absl/time/clock.h"
#include "base/status.h"
#include "spdlog/spdlog.h"
#include "supervisor/container_job.h"
#include "supervisor/project_freezer.h"
#include "supervisor/supervisor.h"

namespace vibe::supervisor {
namespace {

// After containerd went away: soon enough that no restart of a service is missed for long.
constexpr absl::Duration kWatchRetry = absl::Milliseconds(100);
// The host that boots the machine speaks as soon as somebody listens; one that does not was killed.
constexpr absl::Duration kHostPatience = absl::Seconds(5);

}  // namespace

void Supervisor::Recover() {
  if (const auto known = store_->List(); known.ok()) {
    for (const ProjectRecord& record : *known) {
      if (const absl::Status status = FollowState(record.id); !status.ok()) {
        spdlog::error("project {}: {}", record.name, status.ToString());
      }
    }
  }
  const auto records = store_->List();
  if (!records.ok()) {
    spdlog::error("cannot list projects: {}", records.status().ToString());
    return;
  }
  {
    absl::MutexLock lock(&mutex_);
    for (const ProjectRecord& record : *records) {
      recovering_.insert(record.id);
    }
  }
  for (const ProjectRecord& record : *records) {
    if (!record.want_running) {
      continue;
    }
    if (const auto plan = PlanOf(record); plan.ok()) {
      firewall_.Set(record.id, *plan, plan->internet);
    }
  }
  if (const absl::Status status = firewall_.Apply(); !status.ok()) {
    spdlog::error("cannot apply the firewall: {}", status.ToString());
  }
  ForgetBrokenDuplicates();
  for (const ProjectRecord& record : *records) {
    recoveries_.emplace_back([this, record] {
      RecoverProject(record);
      absl::MutexLock lock(&mutex_);
      recovering_.erase(record.id);
    });
  }
  recoveries_.emplace_back([this] {
    if (AwaitContainerd()) {
      RemoveUnusedPackages();  // what a crash left
    }
  });
  recoveries_.emplace_back([this] { KeepSaved(); });
  recoveries_.emplace_back([this] { WatchSpace(); });
  watcher_ = std::thread([this] { WatchContainerd(); });
}

bool Supervisor::Closing() {
  absl::MutexLock lock(&mutex_);
  return closing_;
}

bool Supervisor::AwaitContainerd() {
  const auto closing = [this] {
    mutex_.AssertReaderHeld();
    return closing_;
  };
  while (!containerd_.Version().ok()) {
    absl::MutexLock lock(&mutex_);
    if (mutex_.AwaitWithTimeout(absl::Condition(&closing), kWatchRetry)) {
      return false;
    }
  }
  return true;
}

bool Supervisor::AwaitPool() {
  const absl::Time give_up = absl::Now() + kHostPatience;
  while (!host_.AwaitPool(kWatchRetry) && absl::Now() < give_up) {
    if (Closing()) {
      return false;
    }
  }
  if (const absl::Status settled = host_.SettlePool(); !settled.ok()) {
    spdlog::error("the addresses for projects: {}", settled.ToString());
  }
  return true;
}

absl::Status Supervisor::AwaitRecovered(const std::string& id, absl::Duration limit) {
  const auto known = [&] {
    mutex_.AssertReaderHeld();
    return closing_ || recovering_.count(id) == 0;
  };
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&known), limit)
             ? absl::OkStatus()
             : absl::UnavailableError(
                   "the machine has just started and does not know yet what runs; try again");
}

void Supervisor::RecoverProject(const ProjectRecord& record) {
  if (const auto plan = PlanOf(record); plan.ok()) {
    ProjectFreezer(*plan).Thaw();  // a save may have died while its services stood still
  }
  if (!AwaitContainerd()) {
    return;
  }
  // A dump that went on writes into the state's staging folder, which is emptied next.
  RemoveLeftJobs(containerd_, NamespaceName(record.app_id, record.id)).IgnoreError();
  if (const auto state = StateOf(record.id); !state.ok()) {
    spdlog::error("project {}: its state: {}", record.name, state.status().ToString());
    return;  // each call says so again
  }
  if (record.want_running && !AwaitPool()) {
    return;
  }
  const std::shared_ptr<Entry> entry = EntryOf(record.id);
  absl::MutexLock operation(&entry->operation);
  if (const absl::Status followed = FollowState(record.id); !followed.ok()) {
    spdlog::error("project {}: {}", record.name, followed.ToString());
    return;  // it must not run under another version
  }
  // What the user allows may be another by now.
  const absl::StatusOr<ProjectRecord> now = store_->Get(record.id);
  if (RuntimeOf(record.id) != nullptr || !now.ok()) {
    return;  // the host was faster
  }
  auto runtime = MakeRuntime(*entry, *now);
  if (!runtime.ok()) {
    spdlog::error("project {}: {}", record.name, runtime.status().ToString());
    return;
  }
  if (!record.want_running) {
    // A crash in the middle of a start or a stop may have left containers.
    const auto left = containerd_.ListContainers((*runtime)->plan().containerd_namespace);
    if (left.ok() && !left->empty()) {
      (*runtime)->Stop(absl::Seconds(30), [](const v1::Progress&) {}).IgnoreError();
    }
    return;
  }
  const absl::StatusOr<bool> adopted = (*runtime)->Adopt();
  absl::Status status = adopted.status();
  if (adopted.ok() && *adopted) {
    // The last supervisor may have ended before the hooks of a restore.
    status = (*runtime)->FinishRestore([](const v1::Progress&) {}, [this] { return Closing(); });
  } else if (adopted.ok()) {
    // Secrets live in the host's memory only; an app that needs some waits for the host's
    // StartProject.
    status = CheckSecrets(record, {});
    if (status.ok()) {
      // Recover has applied the firewall, or could not: then nothing may run.
      std::promise<absl::Status> guard;
      guard.set_value(firewall_.Apply());
      status = (*runtime)->Start(
          {}, guard.get_future().share(), [](const v1::Progress&) {}, [this] { return Closing(); });
    }
  }
  if (!status.ok()) {
    spdlog::error("project {} did not come back: {}", record.name, status.ToString());
  }
  Publish(record.id);
}

void Supervisor::WatchContainerd() {
  const auto for_all = [this](const std::function<void(ProjectRuntime&)>& act) {
    for (const std::shared_ptr<ProjectRuntime>& runtime : Runtimes()) {
      act(*runtime);
    }
  };
  const auto closing = [this] {
    mutex_.AssertReaderHeld();
    return closing_;
  };
  while (true) {
    const absl::Status status = containerd_.WatchExits(
        watch_cancellation_, [&] { for_all([](ProjectRuntime& runtime) { runtime.Resync(); }); },
        [&](const containerd::TaskExit& exit) {
          for_all([&](ProjectRuntime& runtime) {
            if (runtime.plan().containerd_namespace == exit.ns) {
              runtime.OnExit(exit);
            }
          });
        });
    absl::MutexLock lock(&mutex_);
    containerd_asked_ = -absl::InfiniteDuration();  // what it said before does not count any more
    if (mutex_.AwaitWithTimeout(absl::Condition(&closing), kWatchRetry)) {
      return;
    }
    spdlog::warn("watching containerd: {}", status.ToString());
  }
}

absl::Status Supervisor::Shutdown(absl::Duration timeout) {
  working_room_.Make();
  VIBE_ASSIGN_OR_RETURN(const std::vector<ProjectRecord> records, store_->List());
  std::vector<std::thread> stops;
  absl::Mutex mutex;
  absl::Status result;
  for (const ProjectRecord& record : records) {
    stops.emplace_back([&, id = record.id] {
      const std::shared_ptr<Entry> entry = EntryOf(id);
      absl::MutexLock operation(&entry->operation);
      if (const auto runtime = RuntimeOf(id)) {
        const absl::Status stopped =
            working_room_.Use([&] { return runtime->Stop(timeout, [](const v1::Progress&) {}); });
        absl::MutexLock lock(&mutex);
        result.Update(stopped);
      }
    });
  }
  for (std::thread& stop : stops) {
    stop.join();
  }
  ::sync();
  return result;
}

}  // namespace vibe::supervisor
