#include "host/port_listener.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>
#include <future>
#include <map>
#include <utility>

#include "base/status.h"
#include "spdlog/spdlog.h"

namespace vibe::host {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr int kBacklog = 4096;  // the kernel's own limit may be lower
constexpr int kAcceptsPerTurn = 16;
constexpr auto kAcceptPause = std::chrono::milliseconds(50);
constexpr auto kFullSilence = std::chrono::minutes(1);

// Accepts on one lane; a connection stays on the lane that accepted it.
class Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  Acceptor(PortLanes& lanes, ForwardLane& lane, UniqueFd listener, relay::StreamHeader target,
           std::shared_ptr<PortCounters> counters)
      : lanes_(lanes),
        lane_(lane),
        listener_(lane.io(), listener.release()),
        timer_(lane.io()),
        target_(std::move(target)),
        counters_(std::move(counters)) {}

  void Start() {
    asio::post(lane_.io(), [self = shared_from_this()] { self->Wait(); });
  }

  void Close(bool end_connections) {
    std::promise<void> closed;
    asio::post(lane_.io(), [this, end_connections, &closed] {
      error_code ignored;
      listener_.close(ignored);
      timer_.cancel();
      if (end_connections) {
        for (const auto& [number, end] : std::exchange(connections_, {})) {
          end();
        }
      }
      closed.set_value();
    });
    closed.get_future().wait();
  }

 private:
  void Wait() {
    listener_.async_wait(asio::posix::stream_descriptor::wait_read,
                         [self = shared_from_this()](const error_code& error) {
                           if (!error) {
                             self->Accept();
                           }
                         });
  }

  void Accept() {
    for (int i = 0; i < kAcceptsPerTurn && listener_.is_open(); ++i) {
      UniqueFd client(::accept(listener_.native_handle(), nullptr, nullptr));
      if (client.valid()) {
        ::fcntl(client.get(), F_SETFD, FD_CLOEXEC);
        Forward(std::move(client));
      } else if (errno == EAGAIN) {
        break;
      } else if (errno != EINTR && errno != ECONNABORTED) {
        Pause();  // out of descriptors
        return;
      }
    }
    if (listener_.is_open()) {
      Wait();
    }
  }

  void Pause() {
    timer_.expires_after(kAcceptPause);
    timer_.async_wait([self = shared_from_this()](const error_code& stopped) {
      if (!stopped && self->listener_.is_open()) {
        self->Wait();
      }
    });
  }

  void Forward(UniqueFd client) {
    if (++lanes_.connections > kMaxConnections || counters_->open >= kMaxPortConnections) {
      --lanes_.connections;
      relay::ResetAndClose(std::move(client));
      const auto now = std::chrono::steady_clock::now();
      if (now - told_full_ >= kFullSilence) {
        told_full_ = now;
        spdlog::warn("connections to {} of project {} are refused: it has {}, all have {}",
                     target_.service, target_.project_id, counters_->open.load(),
                     lanes_.connections.load());
      }
      return;
    }
    ++counters_->connections;
    ++counters_->open;
    const uint64_t number = ++numbers_;
    connections_[number] =
        ForwardConnection(lane_, std::move(client), target_, {counters_, &counters_->traffic},
                          [self = shared_from_this(), number] {
                            self->connections_.erase(number);
                            --self->counters_->open;
                            --self->lanes_.connections;
                          });
  }

  PortLanes& lanes_;
  ForwardLane& lane_;
  asio::posix::stream_descriptor listener_;
  asio::steady_timer timer_;
  const relay::StreamHeader target_;
  const std::shared_ptr<PortCounters> counters_;
  std::map<uint64_t, EndConnection> connections_;
  uint64_t numbers_ = 0;
  std::chrono::steady_clock::time_point told_full_{};
};

class TcpListener : public PortListener {
 public:
  TcpListener(PortLanes& lanes, PortSockets sockets, const relay::StreamHeader& target,
              std::shared_ptr<PortCounters> counters)
      : lanes_(lanes),
        sockets_(std::move(sockets)),
        target_(target),
        counters_(std::move(counters)) {}

  absl::Status Open() override {
    for (UniqueFd* fd : {&sockets_.ipv4, &sockets_.ipv6}) {
      // Another program may have been as quick: a port that is bound only can be bound twice.
      if (fd->valid() && ::listen(fd->get(), kBacklog) != 0) {
        return ErrnoError(errno, "listen");
      }
    }
    for (UniqueFd* fd : {&sockets_.ipv4, &sockets_.ipv6}) {
      for (const auto& lane : lanes_.lanes) {
        UniqueFd copy(fd->valid() ? ::fcntl(fd->get(), F_DUPFD_CLOEXEC, 0) : -1);
        if (copy.valid()) {
          acceptors_.push_back(
              std::make_shared<Acceptor>(lanes_, *lane, std::move(copy), target_, counters_));
          acceptors_.back()->Start();
        }
      }
    }
    return absl::OkStatus();
  }

  void Close() override { Close(false); }
  void End() override { Close(true); }

 private:
  void Close(bool end_connections) {
    sockets_ = {};
    for (const auto& acceptor : acceptors_) {
      acceptor->Close(end_connections);
    }
    acceptors_.clear();
  }

  PortLanes& lanes_;
  PortSockets sockets_;
  const relay::StreamHeader target_;
  const std::shared_ptr<PortCounters> counters_;
  std::vector<std::shared_ptr<Acceptor>> acceptors_;
};

}  // namespace

std::shared_ptr<PortListener> MakePortListener(PortLanes& lanes, PortSockets sockets,
                                               const relay::StreamHeader& target,
                                               std::shared_ptr<PortCounters> counters) {
  if (target.protocol == relay::Protocol::kUdp) {
    return MakeDatagramListener(lanes, std::move(sockets), target, std::move(counters));
  }
  return std::make_shared<TcpListener>(lanes, std::move(sockets), target, std::move(counters));
}

}  // namespace vibe::host
