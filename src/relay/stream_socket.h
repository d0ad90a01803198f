// Stream sockets of any family: the machine's streams are unix sockets here and vsock there,
// clients come by TCP. Thread-safe for different sockets.
#pragma once

#include <sys/socket.h>

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>

#include "base/unique_fd.h"

namespace vibe::relay {

using StreamSocket = boost::asio::generic::stream_protocol::socket;

sa_family_t FamilyOf(int fd);

// Takes the descriptor, of whatever family it is, and lets it not block. It is closed on an error.
boost::system::error_code Assign(StreamSocket& socket, UniqueFd fd);

// What a socket that does not block says when there is nothing to do now.
bool WouldBlock(const boost::system::error_code& error);

// When it is closed next, its peer sees a reset and not the end of the stream, if the family has
// such a thing.
void ResetOnClose(int fd);

// One direction moves this much before it lets other connections run.
inline constexpr size_t kBytesPerTurn = 1 << 20;

// What a thread reads into first: a direction has a buffer of its own only while the other side
// does not take what came. Nobody may hold on to what is in it beyond the call that read it.
inline constexpr size_t kScratchBytes = 1 << 20;
char* Scratch();

}  // namespace vibe::relay
