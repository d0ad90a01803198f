// When a started service counts as ready: its healthcheck passes; without one, all its TCP ports
// answer; without ports, it has run for a moment.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "supervisor/plan.h"
#include "supervisor/service_container.h"

namespace vibe::supervisor {

// How long a service may take to get ready; the first run of an app may install its dependencies.
inline constexpr absl::Duration kReadyTimeout = absl::Minutes(5);

// What is still missing, such as "port 80 does not answer": a second after the wait began, and
// again when that changes.
using MissingSink = std::function<void(const std::string& what)>;

// Blocks until the service is ready. `keep_waiting` is asked between tries; its error (the process
// ended, the user gave up) is returned as it is. DeadlineExceeded says what was waited for, with
// advice that names `project`.
absl::Status AwaitReady(absl::string_view project, const PlannedService& service,
                        ServiceContainer& container, const MissingSink& missing,
                        const std::function<absl::Status()>& keep_waiting);

}  // namespace vibe::supervisor
