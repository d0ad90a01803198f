// What the machine knows of the host's network: which addresses are the host's own, that no service
// may reach, and which ranges it uses, that projects get no addresses of where possible. The host
// says so over RPC before it calls the machine ready, and again all the time. Kept where it goes
// with a reboot, so that the next supervisor of the same boot begins with it. Thread-safe.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "network/network.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::supervisor {

// More than any host has; a longer list is refused whole.
inline constexpr int kMaxHostAddresses = 16384;
inline constexpr int kMaxHostRanges = 1024;

struct HostFacts {
  std::set<std::string> addresses;  // as inet_ntop has them
  std::vector<std::string> ranges;  // "192.0.2.0/24"

  bool operator==(const HostFacts&) const = default;
};
// InvalidArgument when any of it is too much or is not what it should be. Pure.
absl::StatusOr<HostFacts> CheckHostNetwork(const v1::HostNetwork& network);

class HostNetwork {
 public:
  // `directory` need not be there yet. `taken`: ranges that the machine itself uses.
  HostNetwork(std::filesystem::path directory, std::vector<std::string> taken);

  // From now on this is the host's network; the first of a boot settles the pool. After an error it
  // holds all the same, but not for the next supervisor: nothing is known to that one, or what was
  // settled is not kept.
  absl::Status Set(const HostFacts& network);
  // Its addresses are not known any more.
  void Forget();

  // The host's own; nullopt: not known.
  std::optional<std::set<std::string>> addresses() const;

  // Where the projects' addresses come from. Once settled it stays the same until the machine boots
  // again, since what runs has addresses of it.
  network::AddressPool pool() const;
  // Settles it by what is known, if it is not: before the first network is made.
  absl::Status SettlePool();
  // False when nobody settled it in time.
  bool AwaitPool(absl::Duration limit) const;

 private:
  void UsePool(std::vector<std::string> ranges) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Settle(const std::vector<std::string>& ranges) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::filesystem::path AddressesFile() const { return directory_ / "host-addresses"; }
  std::filesystem::path RangesFile() const { return directory_ / "host-ranges"; }

  const std::filesystem::path directory_;
  const std::vector<std::string> taken_;
  mutable absl::Mutex mutex_;
  std::optional<std::set<std::string>> addresses_ ABSL_GUARDED_BY(mutex_);
  network::AddressPool pool_ ABSL_GUARDED_BY(mutex_);
  bool settled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace vibe::supervisor
