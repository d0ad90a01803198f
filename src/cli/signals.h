// Takes signals on a thread of its own while it lives, so that what they call may lock and
// allocate. At most one at a time, made before the other threads that it should cover: the signals
// are blocked in the thread that makes it and in those that start afterwards, and unblocked again
// by the destructor.
#pragma once

#include <atomic>
#include <csignal>
#include <functional>
#include <thread>
#include <vector>

namespace vibe::cli {

class SignalWatch {
 public:
  // `on_signal` runs on the watch's thread, once for each signal taken.
  SignalWatch(std::vector<int> signals, std::function<void(int)> on_signal);
  ~SignalWatch();  // on the thread that made it
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  void Run();

  const std::vector<int> signals_;
  const std::function<void(int)> on_signal_;
  std::atomic<bool> closed_ = false;
  sigset_t set_{};
  sigset_t previous_mask_{};
  std::vector<struct sigaction> previous_actions_;  // one for each of signals_
  std::thread thread_;
};

}  // namespace vibe::cli
