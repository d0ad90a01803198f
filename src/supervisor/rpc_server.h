// A gRPC server on connections that others accept (door.h): gRPC 1.51 has no addresses for the
// sockets of a virtual machine, so every transport is handed to it as a file descriptor.
//
// Thread-safe. `service` outlives it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace vibe::supervisor {

class RpcServer {
 public:
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(grpc::Service& service, int max_threads);
  ~RpcServer();

  // Serves a connected stream socket that does not block. Not after Stop.
  void Add(UniqueFd connection);
  // Lets calls end until `grace` is over, then cancels them.
  void Stop(absl::Duration grace);

 private:
  explicit RpcServer(std::unique_ptr<grpc::Server> server) : server_(std::move(server)) {}

  const std::unique_ptr<grpc::Server> server_;
};

}  // namespace vibe::supervisor
