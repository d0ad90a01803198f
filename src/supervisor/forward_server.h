// Takes forwarded connections from the host (relay/stream_header.h) and connects them to the
// services' ports. A host on the same kernel, which is one whose stream is a unix socket, gets the
// connected socket itself; for others the bytes are moved here, in frames (relay/frame.h). All
// connections share a few threads.
//
// Thread-safe. Stop ends every connection; the destructor does it as well.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "relay/stream_header.h"
#include "supervisor/supervisor.h"

namespace vibe::supervisor {

inline constexpr size_t kMaxForwards = 8000;  // each takes two of the 20000 file descriptors

class ForwardServer {
 public:
  // Says where a connection goes; its error's message is the answer, but Unavailable is asked again
  // for a while. Called from several threads; does not block.
  using Resolver = std::function<absl::StatusOr<Supervisor::Target>(const relay::StreamHeader&)>;

  explicit ForwardServer(Resolver resolver);
  ~ForwardServer();

  // Serves a connected stream socket. Blocks while there are too many, until Stop.
  void Add(UniqueFd connection);

  void Stop();

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace vibe::supervisor
