// A UDP port: each client has a flow of its own into the machine (relay/datagram_stream.h), so that
// the service sees clients apart and answers find their way back. The table of flows is bounded:
// one that was silent for a minute ends, and when there are too many, the one that was silent
// longest.
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "host/port_listener.h"
#include "relay/datagram_stream.h"
#include "relay/stream_socket.h"

namespace vibe::host {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Descriptor = asio::posix::stream_descriptor;

constexpr size_t kMaxFlows = 512;  // of one port
constexpr auto kIdle = std::chrono::seconds(60);
constexpr auto kSweep = std::chrono::seconds(5);
constexpr size_t kMaxWaiting = 16;  // datagrams of a flow whose way is not open yet
constexpr int kReadsPerTurn = 64;

// All but Open, Close and End is the lane's.
class DatagramListener : public PortListener,
                         public std::enable_shared_from_this<DatagramListener> {
 public:
  DatagramListener(PortLanes& lanes, ForwardLane& lane, PortSockets sockets,
                   const relay::StreamHeader& target, std::shared_ptr<PortCounters> counters)
      : lanes_(lanes),
        lane_(lane),
        sockets_(std::move(sockets)),
        target_(target),
        counters_(std::move(counters)),
        descriptors_{Descriptor(lane.io()), Descriptor(lane.io())},
        timer_(lane.io()) {}

  absl::Status Open() override {
    for (const UniqueFd* fd : {&sockets_.ipv4, &sockets_.ipv6}) {
      // What came before the service answered was sent to nobody.
      char dropped;
      while (fd->valid() && ::recv(fd->get(), &dropped, 1, MSG_DONTWAIT) >= 0) {
      }
    }
    asio::post(lane_.io(), [self = shared_from_this()] {
      self->Assign(0, std::move(self->sockets_.ipv4));
      self->Assign(1, std::move(self->sockets_.ipv6));
      self->Sweep();
    });
    return absl::OkStatus();
  }

  void Close() override {
    std::promise<void> closed;
    asio::post(lane_.io(), [this, &closed] {
      sockets_ = {};
      error_code ignored;
      for (Descriptor& descriptor : descriptors_) {
        descriptor.close(ignored);
      }
      timer_.cancel();
      while (!flows_.empty()) {
        End(flows_.begin());
      }
      closed.set_value();
    });
    closed.get_future().wait();
  }

  void End() override { Close(); }

 private:
  struct Flow {
    sockaddr_storage peer{};
    socklen_t peer_size = 0;
    size_t socket = 0;  // the descriptor that it came in by
    uint64_t number = 0;
    Clock::time_point last;
    std::vector<std::string> waiting;
    std::shared_ptr<relay::DatagramStream> stream;  // none while the way is being opened
  };
  using Flows = std::map<std::string, Flow>;  // by the bytes of the peer's address

  void Assign(size_t index, UniqueFd fd) {
    if (!fd.valid()) {
      return;
    }
    descriptors_[index].assign(fd.release());
    Wait(index);
  }

  void Wait(size_t index) {
    descriptors_[index].async_wait(Descriptor::wait_read,
                                   [self = shared_from_this(), index](const error_code& error) {
                                     if (!error) {
                                       self->Read(index);
                                     }
                                   });
  }

  void Read(size_t index) {
    for (int i = 0; i < kReadsPerTurn && descriptors_[index].is_open(); ++i) {
      sockaddr_storage peer{};
      socklen_t size = sizeof peer;
      const ssize_t count =
          ::recvfrom(descriptors_[index].native_handle(), relay::Scratch(), relay::kScratchBytes,
                     MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&peer), &size);
      if (count >= 0) {
        Take(index, peer, size, absl::string_view(relay::Scratch(), static_cast<size_t>(count)));
      } else if (errno == EAGAIN) {
        break;
      }
      // Any other error is of a datagram that was sent from here and found nobody.
    }
    if (descriptors_[index].is_open()) {
      Wait(index);
    }
  }

  void Take(size_t index, const sockaddr_storage& peer, socklen_t size,
            absl::string_view datagram) {
    const std::string key(reinterpret_cast<const char*>(&peer), size);
    auto found = flows_.find(key);
    if (found == flows_.end()) {
      if (flows_.size() >= kMaxFlows) {
        End(std::min_element(flows_.begin(), flows_.end(), [](const auto& a, const auto& b) {
          return a.second.last < b.second.last;
        }));
      }
      if (++lanes_.connections > kMaxConnections) {
        --lanes_.connections;
        return;
      }
      ++counters_->connections;
      ++counters_->open;
      found = flows_.emplace(key, Flow{peer, size, index, ++numbers_, {}, {}, nullptr}).first;
      Begin(key, found->second.number);
    }
    Flow& flow = found->second;
    flow.last = Clock::now();
    if (flow.stream != nullptr) {
      Pass(flow, datagram);
    } else if (flow.waiting.size() < kMaxWaiting) {
      flow.waiting.emplace_back(datagram);
    }
  }

  void Pass(const Flow& flow, absl::string_view datagram) {
    if (flow.stream->Send(datagram)) {
      counters_->traffic.from_a += datagram.size();
    }
  }

  // The flow, unless it ended meanwhile; another one may have its peer's address.
  Flows::iterator Find(const std::string& key, uint64_t number) {
    const auto found = flows_.find(key);
    return found != flows_.end() && found->second.number == number ? found : flows_.end();
  }

  void Begin(const std::string& key, uint64_t number) {
    lane_.Open(target_, [self = shared_from_this(), key, number](absl::StatusOr<Way> machine) {
      const auto found = self->Find(key, number);
      if (found == self->flows_.end()) {
        return;
      }
      if (!machine.ok()) {
        self->End(found);
        return;
      }
      Flow& flow = found->second;
      flow.stream = std::make_shared<relay::DatagramStream>(self->lane_.io());
      flow.stream->Start(
          std::move(machine->fd),
          [self, key, number](absl::string_view datagram) { self->Answer(key, number, datagram); },
          [self, key, number] {
            if (const auto ended = self->Find(key, number); ended != self->flows_.end()) {
              self->End(ended);
            }
          });
      for (const std::string& datagram : std::exchange(flow.waiting, {})) {
        self->Pass(flow, datagram);
      }
    });
  }

  void Answer(const std::string& key, uint64_t number, absl::string_view datagram) {
    const auto found = Find(key, number);
    if (found == flows_.end()) {
      return;
    }
    Flow& flow = found->second;
    flow.last = Clock::now();
    if (::sendto(descriptors_[flow.socket].native_handle(), datagram.data(), datagram.size(),
                 MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&flow.peer),
                 flow.peer_size) >= 0) {
      counters_->traffic.from_b += datagram.size();
    }
  }

  void End(Flows::iterator flow) {
    if (flow->second.stream != nullptr) {
      flow->second.stream->Close();
    }
    flows_.erase(flow);
    --counters_->open;
    --lanes_.connections;
  }

  void Sweep() {
    const Clock::time_point oldest = Clock::now() - kIdle;
    for (auto flow = flows_.begin(); flow != flows_.end();) {
      const auto next = std::next(flow);
      if (flow->second.last < oldest) {
        End(flow);
      }
      flow = next;
    }
    timer_.expires_after(kSweep);
    timer_.async_wait([self = shared_from_this()](const error_code& stopped) {
      if (!stopped) {
        self->Sweep();
      }
    });
  }

  PortLanes& lanes_;
  ForwardLane& lane_;
  PortSockets sockets_;  // until it is open
  const relay::StreamHeader target_;
  const std::shared_ptr<PortCounters> counters_;
  Descriptor descriptors_[2];
  asio::steady_timer timer_;
  Flows flows_;
  uint64_t numbers_ = 0;
};

}  // namespace

std::shared_ptr<PortListener> MakeDatagramListener(PortLanes& lanes, PortSockets sockets,
                                                   const relay::StreamHeader& target,
                                                   std::shared_ptr<PortCounters> counters) {
  // All of a port's flows are on one lane, ports spread over them.
  static std::atomic<size_t> next{0};
  ForwardLane& lane = *lanes.lanes[next++ % lanes.lanes.size()];
  return std::make_shared<DatagramListener>(lanes, lane, std::move(sockets), target,
                                            std::move(counters));
}

}  // namespace vibe::host
