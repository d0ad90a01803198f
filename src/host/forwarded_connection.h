// One connection on its way into the machine: dials, names its target, then hands over to the
// relay.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "relay/stream_header.h"

namespace vibe::host {

struct ForwardContext {
  boost::asio::io_context& io;
  boost::asio::thread_pool& dialers;  // dialling may block
  std::function<absl::StatusOr<UniqueFd>()> dial;
};

// Returns at once. A machine that does not answer is dialled again for 10 s: its supervisor may be
// coming back. When that fails, or the service does not answer, `client` is reset. `done` is called
// once, at the connection's end, on a thread that runs `context.io`, unless that is destroyed
// first. `context` outlives the io_context's last handler.
void ForwardConnection(ForwardContext& context, UniqueFd client, const relay::StreamHeader& target,
                       std::function<void()> done);

}  // namespace vibe::host
