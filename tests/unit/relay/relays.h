// What tests of relays have in common.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "relay/io_threads.h"
#include "relay/relay.h"

namespace vibe::relay {

class Relays : public testing::Test {
 protected:
  bool WaitUntilDone(int count) {
    for (int i = 0; i < 500 && done_ < count; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return done_ == count;
  }

  const std::shared_ptr<Traffic> traffic_ = std::make_shared<Traffic>();
  std::atomic<int> done_ = 0;  // how many relays have ended
  IoThreads threads_{2};
};

}  // namespace vibe::relay
