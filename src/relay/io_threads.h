// A few threads that carry any number of connections: each runs an io_context of its own, so that
// what belongs to one connection needs no lock. Thread-safe.
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

namespace vibe::relay {

class IoThreads {
 public:
  // As many as this computer has processors, but two at least and four at most. With one, a bulk
  // transfer would hold up everybody else.
  static size_t DefaultCount();

  explicit IoThreads(size_t count = DefaultCount());
  ~IoThreads();  // what is still open is closed without a word

  size_t size() const { return contexts_.size(); }
  boost::asio::io_context& context(size_t index) { return *contexts_[index]; }
  boost::asio::io_context& Next();  // each in its turn

  // No handler runs any more when it returns. Not to be called by one of the threads.
  void Stop();

 private:
  using WorkGuard = boost::asio::executor_work_guard<boost::asio::io_context::executor_type>;

  std::vector<std::unique_ptr<boost::asio::io_context>> contexts_;
  std::vector<WorkGuard> work_;
  std::vector<std::thread> threads_;
  std::atomic<size_t> next_{0};
};

}  // namespace vibe::relay
