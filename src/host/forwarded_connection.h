// Ways into the machine for forwarded connections: dials, names the target, and gives the stream or
// socket that leads to the service.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "relay/relay.h"
#include "relay/stream_header.h"

namespace vibe::host {

class IdleStream;

struct Way {
  UniqueFd fd;
  bool framed = false;  // a stream with frames or datagrams; else the connection's own socket
};

// One for each thread that carries connections; used by that thread only. It outlives the
// io_context's last handler. Streams that the machine keeps open for the next connection
// (relay/stream_header.h) wait here.
class ForwardLane {
 public:
  using Dial = std::function<absl::StatusOr<UniqueFd>()>;
  using Opened = std::function<void(absl::StatusOr<Way>)>;

  // Dialling may block, and is left to `dialers`.
  ForwardLane(boost::asio::io_context& io, boost::asio::thread_pool& dialers, const Dial& dial);
  ~ForwardLane();

  boost::asio::io_context& io() { return io_; }

  // Calls `opened` on the lane's thread with what is connected. A machine that does not
  // answer is dialled again for 10 s: its supervisor may be coming back.
  void Open(const relay::StreamHeader& target, Opened opened);

 private:
  friend class OpeningStream;
  friend class IdleStream;

  std::shared_ptr<IdleStream> TakeIdle();
  void Keep(std::shared_ptr<IdleStream> stream);
  void Drop(const IdleStream* stream);

  boost::asio::io_context& io_;
  boost::asio::thread_pool& dialers_;
  const Dial& dial_;
  std::vector<std::shared_ptr<IdleStream>> idle_;
};

// Ends one connection now: both sides are reset. On the lane's thread; harmless after its end.
using EndConnection = std::function<void()>;

// Opens a way to the target and relays `client` to it; resets the client when there is none. `done`
// is called once, at the connection's end, on the lane's thread, unless its context is destroyed
// first; never before this returns.
EndConnection ForwardConnection(ForwardLane& lane, UniqueFd client,
                                const relay::StreamHeader& target,
                                std::shared_ptr<relay::Traffic> traffic,
                                std::function<void()> done);

}  // namespace vibe::host
