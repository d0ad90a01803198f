// The guest's life after its root is there: what starts when, what is kept running, how it ends.
// One thread.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "init/guest/power.h"
#include "init/guest/settings.h"
#include "init/guest/timeline.h"
#include "init/guest/vsock_call.h"
#include "init/service.h"

namespace vibe::init::guest {

class Guest {
 public:
  Guest(Settings settings, Timeline timeline, UniqueFd signals)
      : settings_(std::move(settings)),
        timeline_(std::move(timeline)),
        signals_(std::move(signals)) {}

  // Returns when the machine is to be switched off: asked to, or with an error that leaves no other
  // way.
  absl::Status Run();
  // Ends services and containers, within a bound.
  void Stop();

 private:
  void StartWorkers();
  void WorkerEnded(const std::string& name, bool ok);
  bool Finished(const std::string& worker) const { return !running_.contains(worker); }
  void StartLeaseKeeper();
  void StartServices(absl::Time now);
  void Announce();
  void Wait(absl::Time until);
  void Turn();
  void Ended(Service& service, int wait_status);
  bool WaitUntil(const std::function<bool()>& done, absl::Duration limit);
  void End(Service& service, absl::Duration limit);

  const Settings settings_;
  Timeline timeline_;
  UniqueFd signals_;
  PowerButton button_;
  VsockCall vsock_;
  std::map<std::string, pid_t> running_;  // workers
  pid_t lease_keeper_ = 0;
  std::optional<Service> containerd_;
  std::optional<Service> supervisor_;
  absl::Status failure_;
  bool announced_ = false;
  bool power_off_ = false;
  bool no_children_ = false;
  bool stopping_ = false;
};

}  // namespace vibe::init::guest
