#include "supervisor/rpc_server.h"

#include <fcntl.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"
#include "spdlog/spdlog.h"

namespace vibe::supervisor {
namespace {

// An index of 100000 files is the longest message.
constexpr int kMaxMessageBytes = 64 << 20;  // an index of 100000 files
// A host that vanished without a word is noticed after half a minute.
constexpr int kKeepaliveMs = 20'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
constexpr int kMinPingIntervalMs = 5'000;
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(UniqueFd listener,
                                                            grpc::Service& service,
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
  return std::unique_ptr<RpcServer>(new RpcServer(std::move(listener), std::move(server)));
}

RpcServer::RpcServer(UniqueFd listener, std::unique_ptr<grpc::Server> server)
    : listener_(std::move(listener)),
      stop_(::eventfd(0, EFD_CLOEXEC)),
      server_(std::move(server)),
      acceptor_([this] { Accept(); }) {}

RpcServer::~RpcServer() {
  Stop(absl::ZeroDuration());
}

void RpcServer::Stop(absl::Duration grace) {
  if (!acceptor_.joinable()) {
    return;
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof one);
  acceptor_.join();
  server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  server_->Wait();
}

void RpcServer::Accept() {
  std::array<pollfd, 2> waiting = {{{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  while (true) {
    ::poll(waiting.data(), waiting.size(), -1);
    if (waiting[1].revents != 0) {
      return;
    }
    const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      grpc::AddInsecureChannelFromFd(server_.get(), fd);  // owns it from now on
    } else if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) {
      spdlog::warn("cannot accept a connection: {}", std::strerror(errno));
      absl::SleepFor(kAcceptPause);
    }
  }
}

}  // namespace vibe::supervisor
