// Copies bytes both ways between a connected socket and a stream of the machine that carries the
// connection in frames (relay/frame.h); at the stream's other end is another one of these. What the
// socket's peer does reaches the peer of the socket there, as with relay/relay.h: an end of
// sending, a reset, and that it does not read. At most kWindowBytes per direction are held here,
// and none while a direction is idle.
//
// The peer that sends what is no frame, or more than it may, breaks the connection: both are
// closed.
#pragma once

#include <functional>
#include <memory>

#include "base/unique_fd.h"
#include "relay/relay.h"

namespace vibe::relay {

// As StartRelay. `traffic` counts payload, `from_a` being the socket's.
EndRelay StartFramedRelay(boost::asio::io_context& context, UniqueFd socket, UniqueFd stream,
                          std::shared_ptr<Traffic> traffic, std::function<void()> done = {});

}  // namespace vibe::relay
