#include "cli/signals.h"

#include <pthread.h>

#include <utility>

namespace vibe::cli {

SignalWatch::SignalWatch(std::vector<int> signals, std::function<void(int)> on_signal)
    : signals_(std::move(signals)), on_signal_(std::move(on_signal)) {
  sigemptyset(&set_);
  for (const int number : signals_) {
    sigaddset(&set_, number);
    // A signal whose default is to be ignored (SIGWINCH) may be thrown away even while it is
    // blocked; one with a handler is not. The handler never runs.
    struct sigaction action {};
    action.sa_handler = [](int) {};
    struct sigaction previous {};
    sigaction(number, &action, &previous);
    previous_actions_.push_back(previous);
  }
  pthread_sigmask(SIG_BLOCK, &set_, &previous_mask_);
  thread_ = std::thread([this] { Run(); });
}

SignalWatch::~SignalWatch() {
  closed_ = true;
  pthread_kill(thread_.native_handle(), signals_.front());
  thread_.join();
  for (size_t i = 0; i < signals_.size(); ++i) {
    sigaction(signals_[i], &previous_actions_[i], nullptr);
  }
  pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr);
}

void SignalWatch::Run() {
  while (true) {
    int number = 0;
    const int error = sigwait(&set_, &number);
    if (closed_) {
      return;
    }
    if (error == 0) {
      on_signal_(number);
    }
  }
}

}  // namespace vibe::cli
