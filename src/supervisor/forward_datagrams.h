// The machine's end of a UDP flow: a stream of the host (relay/datagram_stream.h) and a socket that
// is connected to the service, so that the service sees each client's flow with an address of its
// own.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "supervisor/supervisor.h"

namespace vibe::supervisor {

// A UDP socket that is connected to the first of the target's addresses that can be. Says nothing
// about whether anybody listens there.
absl::StatusOr<UniqueFd> ConnectDatagrams(const Supervisor::Target& target);

// Moves datagrams both ways until the host closes its stream. `context` is run by one thread, which
// is the caller's; `done` is called there, at the end.
void StartDatagrams(boost::asio::io_context& context, UniqueFd host, UniqueFd service,
                    std::function<void()> done);

}  // namespace vibe::supervisor
