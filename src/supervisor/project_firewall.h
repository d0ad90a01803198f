// The projects that the firewall lets through, and the tables in the kernel that say so.
// Thread-safe.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "network/network.h"
#include "supervisor/host_network.h"
#include "supervisor/plan.h"

namespace vibe::supervisor {

class ProjectFirewall {
 public:
  // `host` outlives it, and says what the pool and the host's addresses are at each Apply; nobody
  // has the internet while the latter are not known.
  ProjectFirewall(network::FirewallOptions options, const HostNetwork& host)
      : host_(host), options_(std::move(options)) {}

  // What is to be true from the next Apply on.
  void Set(const std::string& id, const Plan& plan, bool internet);
  void Forget(const std::string& id);
  // Of a project that was Set; of another it changes nothing.
  void SetInternet(const std::string& id, bool internet);

  // Returns when the kernel has what was said before the call. The first one makes the tables anew,
  // whatever an earlier supervisor left, and so does one that finds another pool; a later one
  // changes what is different.
  absl::Status Apply();

 private:
  const HostNetwork& host_;
  absl::Mutex mutex_;
  std::map<std::string, network::FirewallProject> projects_ ABSL_GUARDED_BY(mutex_);  // by id
  absl::Mutex kernel_ ABSL_ACQUIRED_BEFORE(mutex_);  // held while nft runs
  network::FirewallOptions options_ ABSL_GUARDED_BY(kernel_);
  // What the tables have; nullopt when that is not known.
  std::optional<network::FirewallState> applied_ ABSL_GUARDED_BY(kernel_);
};

}  // namespace vibe::supervisor
