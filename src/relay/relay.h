// Copies bytes both ways between two connected stream sockets until both directions have ended.
//
// What one side does reaches the other: an end of sending (half-close) is passed on while the other
// direction goes on; a reset, or a peer that vanished, resets the other side where its socket can
// (TCP) and closes it where it cannot. A side that does not read stops its peer's sending
// (back-pressure): at most kBufferBytes per direction are held here, and none while a direction is
// idle.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/unique_fd.h"

namespace boost::asio {
class io_context;
}  // namespace boost::asio

namespace vibe::relay {

inline constexpr size_t kBufferBytes = 1 << 20;

// Bytes that were passed on, of all connections that share it.
struct Traffic {
  std::atomic<uint64_t> from_a{0}, from_b{0};
};

// Ends one relay now: both sides are reset. On the context's thread; harmless after its end.
using EndRelay = std::function<void()>;

// Takes both fds and starts; returns at once. `context` is run by one thread, and this is called
// from a handler of it or before it runs. `traffic` may be null. `done` (may be empty) is called
// once, on that thread, after both fds are closed. Destroying the context closes what is still open
// without calling `done`.
EndRelay StartRelay(boost::asio::io_context& context, UniqueFd a, UniqueFd b,
                    std::shared_ptr<Traffic> traffic, std::function<void()> done = {});

// Closes a connected socket so that a TCP peer sees a reset and not the end of the stream.
void ResetAndClose(UniqueFd fd);

}  // namespace vibe::relay
