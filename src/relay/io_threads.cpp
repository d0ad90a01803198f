#include "relay/io_threads.h"

#include <algorithm>

namespace vibe::relay {

size_t IoThreads::DefaultCount() {
  return std::clamp(std::thread::hardware_concurrency(), 2U, 4U);
}

IoThreads::IoThreads(size_t count) {
  for (size_t i = 0; i < count; ++i) {
    contexts_.push_back(std::make_unique<boost::asio::io_context>(1));
    work_.emplace_back(contexts_.back()->get_executor());
  }
  for (const auto& context : contexts_) {
    threads_.emplace_back([&io = *context] { io.run(); });
  }
}

IoThreads::~IoThreads() {
  Stop();
}

boost::asio::io_context& IoThreads::Next() {
  return *contexts_[next_++ % contexts_.size()];
}

void IoThreads::Stop() {
  for (const auto& context : contexts_) {
    context->stop();
  }
  for (std::thread& thread : threads_) {
    thread.join();
  }
  threads_.clear();
}

}  // namespace vibe::relay
