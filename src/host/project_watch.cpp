#include "host/project_watch.h"

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace vibe::host {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(200);

}  // namespace

ProjectWatch::ProjectWatch(Projects& projects, vm::Machine& machine, SupervisorClient& supervisor,
                           PortForwarder& ports)
    : projects_(projects), machine_(machine), supervisor_(supervisor), ports_(ports) {
  thread_ = std::thread([this] { Run(); });
}

ProjectWatch::~ProjectWatch() {
  stop_.Cancel();
  thread_.join();
}

void ProjectWatch::Run() {
  while (!stop_.cancelled()) {
    const vm::MachineState state = machine_.status().state;
    if (state == vm::MachineState::kStopped || state == vm::MachineState::kError) {
      ports_.CloseAll();
    } else if (state == vm::MachineState::kReady || state == vm::MachineState::kBusy) {
      const absl::Status watched = supervisor_.Events(
          [this] { return projects_.Reconcile(stop_); },
          [this](const v1::Project& project) { projects_.ReconcileOne(project.id(), stop_); },
          stop_);
      if (watched.ok()) {
        continue;
      }
    }
    stop_.SleepFor(kPause);
  }
}

}  // namespace vibe::host
