// A gRPC server on connections that we accept ourselves: gRPC 1.51 has no addresses for the sockets
// of a virtual machine, so every transport is handed to it as a file descriptor.
//
// Thread-safe. `service` outlives it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace vibe::supervisor {

class RpcServer {
 public:
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(UniqueFd listener, grpc::Service& service,
                                                          int max_threads);
  ~RpcServer();

  // Takes no more connections, lets calls end until `grace` is over, then cancels them.
  void Stop(absl::Duration grace);

 private:
  RpcServer(UniqueFd listener, std::unique_ptr<grpc::Server> server);
  void Accept();

  const UniqueFd listener_;
  const UniqueFd stop_;  // an eventfd
  const std::unique_ptr<grpc::Server> server_;
  std::thread acceptor_;
};

}  // namespace vibe::supervisor
