// Notices clients that go away while their request is worked on, and lets answers that take long
// show a sign of life. One thread for all, owned here. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "host/cancellation.h"

namespace vibe::host {

class ClientWatch {
 public:
  explicit ClientWatch(absl::Duration heartbeat);
  ~ClientWatch();

  // Until it is destroyed: cancels when the peer of `fd` closes, and calls `heartbeat` (may be
  // empty) now and then. What the peer sends stays unread. `heartbeat` must not block.
  class Registration {
   public:
    Registration(ClientWatch& owner, int fd, Cancellation& cancel, std::function<void()> heartbeat);
    ~Registration();
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;

   private:
    ClientWatch& owner_;
    uint64_t id_ = 0;
  };

 private:
  struct Client {
    int fd = -1;
    Cancellation* cancel = nullptr;
    std::function<void()> heartbeat;
    short events = 0;
    absl::Time next_heartbeat;
  };

  void Run();
  void Wake();
  void Check(Client& client, short events) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const absl::Duration heartbeat_;
  UniqueFd wake_read_;
  UniqueFd wake_write_;
  absl::Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, Client> clients_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace vibe::host
