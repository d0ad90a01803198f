// What saves, restores and copies have in common. Inside the supervisor only.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "state/snapshot_store.h"
#include "supervisor/project_freezer.h"
#include "supervisor/project_runtime.h"

namespace vibe::supervisor {

// How long a call waits for the supervisor to find out what runs after its own start.
inline constexpr absl::Duration kRecoveryPatience = absl::Seconds(30);

inline v1::Progress SnapshotEvent(v1::Progress::Phase phase, absl::string_view item) {
  v1::Progress progress;
  progress.set_phase(phase);
  progress.set_item(std::string(item));
  return progress;
}

// Calls again while another step on the same project's snapshots is under way: the last step of
// completing one has the project's lock for a moment.
template <typename Call>
auto Patiently(const Call& call) {
  constexpr absl::Duration kPatience = absl::Seconds(10), kPoll = absl::Milliseconds(20);
  const absl::Time deadline = absl::Now() + kPatience;
  while (true) {
    auto result = call();
    absl::Status status;
    if constexpr (std::is_same_v<decltype(result), absl::Status>) {
      status = result;
    } else {
      status = result.status();
    }
    if (ReasonOf(status) != Reason::kSaveInProgress || absl::Now() >= deadline) {
      return result;
    }
    absl::SleepFor(kPoll);
  }
}

// Whether a process of the project may be writing. Null: not started since the boot.
inline bool AnyRuns(const ProjectRuntime* runtime) {
  const std::vector<ServiceState> states =
      runtime == nullptr ? std::vector<ServiceState>() : runtime->services();
  return std::any_of(states.begin(), states.end(), MayRun);
}

// Of volumes that know how to be cut off at any instant, nobody has to stand still for.
inline state::QuiesceHooks QuiesceFor(const ProjectRuntime* runtime,
                                      const std::map<std::string, state::Consistency>& volumes) {
  // A service that does not stand still within this has the save fail, not hang.
  constexpr absl::Duration kFreezeLimit = absl::Seconds(2);
  const bool generic = std::any_of(volumes.begin(), volumes.end(), [](const auto& volume) {
    return volume.second == state::Consistency::kGeneric;
  });
  if (!generic || !AnyRuns(runtime)) {
    return {};
  }
  const auto freezer = std::make_shared<ProjectFreezer>(runtime->plan());
  return {.quiesce = [freezer] { return freezer->Freeze(kFreezeLimit); },
          .thaw = [freezer] { freezer->Thaw(); }};
}

}  // namespace vibe::supervisor
