#include "supervisor/rpc_server.h"

#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>

#include <utility>

#include "absl/time/clock.h"

namespace vibe::supervisor {
namespace {

// An index of 100000 files is the longest message.
constexpr int kMaxMessageBytes = 64 << 20;  // an index of 100000 files
// A host that vanished without a word is noticed after half a minute.
constexpr int kKeepaliveMs = 20'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
constexpr int kMinPingIntervalMs = 5'000;

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(grpc::Service& service,
                                                            int max_threads) {
  grpc::ResourceQuota quota("vibe-supervisor");
  quota.SetMaxThreads(max_threads);
  grpc::ServerBuilder builder;
  builder.RegisterService(&service);
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::InternalError("the gRPC server does not start");
  }
  return std::unique_ptr<RpcServer>(new RpcServer(std::move(server)));
}

RpcServer::~RpcServer() {
  Stop(absl::ZeroDuration());
}

void RpcServer::Add(UniqueFd connection) {
  grpc::AddInsecureChannelFromFd(server_.get(), connection.release());
}

void RpcServer::Stop(absl::Duration grace) {
  server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  server_->Wait();
}

}  // namespace vibe::supervisor
