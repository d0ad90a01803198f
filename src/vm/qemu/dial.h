// Opens streams to the guest's ports, by whichever transport the boot has.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "vm/qemu/boot.h"
#include "vm/qemu/layout.h"

namespace vibe::vm::qemu {

// Thread-safe. As few of them as can be for one machine, each for as long as can be: see
// unanswered_.
class Dialer {
 public:
  // Unavailable when nobody listens on the port, DeadlineExceeded when the guest does not answer.
  absl::StatusOr<UniqueFd> Dial(const Layout& layout, const Boot& boot, uint32_t port,
                                absl::Time deadline);

 private:
  absl::StatusOr<UniqueFd> ThroughDevice(const Layout& layout, uint32_t port, absl::Time deadline);
  absl::StatusOr<UniqueFd> AwaitAccepted(UniqueFd stream, uint32_t port, absl::Time deadline);
  UniqueFd TakeUnanswered(uint32_t port);

  absl::Mutex mutex_;
  // By port. vhost-device-vsock 0.3 panics, and the guest is cut off for good, when the guest
  // accepts a connection whose host has hung up meanwhile. So a caller who waited in vain leaves
  // the connection to the next one; there are never more of them than callers at a time.
  std::map<uint32_t, std::vector<UniqueFd>> unanswered_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace vibe::vm::qemu
