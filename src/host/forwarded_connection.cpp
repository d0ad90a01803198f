#include "host/forwarded_connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "base/descriptor.h"
#include "relay/framed_relay.h"
#include "relay/stream_socket.h"
#include "spdlog/spdlog.h"

namespace vibe::host {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(10);
constexpr auto kRetryPause = std::chrono::milliseconds(100);
constexpr size_t kMaxIdle = 16;

}  // namespace

// A stream to the machine's forward port, always heard: while it is kept, only its end can come.
class IdleStream : public std::enable_shared_from_this<IdleStream> {
 public:
  explicit IdleStream(ForwardLane& lane) : lane_(lane), socket_(lane.io()) {}

  bool Assign(UniqueFd fd) { return !relay::Assign(socket_, std::move(fd)); }

  int fd() { return socket_.native_handle(); }

  // Calls `heard` once, when there is something to read.
  void Hear(std::function<void()> heard) {
    heard_ = std::move(heard);
    if (!hearing_) {
      Wait();
    }
  }

  void Close() {
    heard_ = nullptr;
    error_code ignored;
    socket_.close(ignored);
  }

  // The stream itself becomes the connection.
  UniqueFd Release() {
    error_code error;
    const int fd = socket_.release(error);
    return UniqueFd(error ? -1 : fd);
  }

 private:
  void Wait() {
    hearing_ = true;
    socket_.async_wait(relay::StreamSocket::wait_read,
                       [self = shared_from_this()](const error_code& error) {
                         if (error) {
                           return;
                         }
                         self->hearing_ = false;
                         if (const auto heard = std::exchange(self->heard_, nullptr)) {
                           heard();
                         } else {
                           self->lane_.Drop(self.get());
                           self->Close();
                         }
                       });
  }

  ForwardLane& lane_;
  relay::StreamSocket socket_;
  std::function<void()> heard_;
  bool hearing_ = false;  // a wait is pending
};

// One call of ForwardLane::Open, on the lane's thread except for the dialling.
class OpeningStream : public std::enable_shared_from_this<OpeningStream> {
 public:
  OpeningStream(ForwardLane& lane, const relay::StreamHeader& target, ForwardLane::Opened opened)
      : lane_(lane),
        timer_(lane.io()),
        header_(relay::FormatHeader(target)),
        opened_(std::move(opened)),
        give_up_(Clock::now() + kPatience) {}

  void Begin() {
    stream_ = lane_.TakeIdle();
    if (stream_ != nullptr) {
      kept_ = true;
      Ask();
    } else {
      Dial();
    }
  }

 private:
  void Dial() {
    asio::post(lane_.dialers_, [self = shared_from_this()] {
      auto fd = std::make_shared<absl::StatusOr<UniqueFd>>(self->lane_.dial_());
      asio::post(self->lane_.io(), [self, fd] {
        if (!fd->ok()) {
          self->Retry(std::string(fd->status().message()));
          return;
        }
        self->stream_ = std::make_shared<IdleStream>(self->lane_);
        if (!self->stream_->Assign(std::move(*fd).value())) {
          self->Finish(absl::InternalError("a dialled stream cannot be used"));
          return;
        }
        self->Ask();
      });
    });
  }

  void Retry(const std::string& why) {
    timer_.cancel();
    if (stream_ != nullptr) {
      std::exchange(stream_, nullptr)->Close();
    }
    if (std::exchange(kept_, false)) {
      Dial();  // a kept stream may have ended long ago
      return;
    }
    if (Clock::now() + kRetryPause > give_up_) {
      Finish(absl::UnavailableError(why));
      return;
    }
    timer_.expires_after(kRetryPause);
    timer_.async_wait([self = shared_from_this()](const error_code&) { self->Dial(); });
  }

  void Finish(absl::StatusOr<Way> result) {
    timer_.cancel();
    if (stream_ != nullptr) {
      std::exchange(stream_, nullptr)->Close();
    }
    if (!result.ok()) {
      spdlog::info("{}: {}", header_.substr(0, header_.size() - 1),
                   std::string(result.status().message()));
    }
    std::exchange(opened_, nullptr)(std::move(result));
  }

  // A header is shorter than any socket's buffer.
  void Ask() {
    said_ = 0;
    descriptor_.reset();
    stream_->Hear([self = shared_from_this()] { self->ReadAnswer(); });
    if (::send(stream_->fd(), header_.data(), header_.size(), MSG_DONTWAIT) !=
        static_cast<ssize_t>(header_.size())) {
      Retry("the machine closed the stream");
      return;
    }
    timer_.expires_at(give_up_);
    timer_.async_wait([self = shared_from_this()](const error_code& stopped) {
      if (!stopped && self->opened_) {
        self->Finish(absl::DeadlineExceededError("the machine does not answer"));
      }
    });
  }

  // Never more than the answer: what follows belongs to the service.
  void ReadAnswer() {
    while (said_ < relay::kAnswerBytes) {
      const ssize_t count = ReceiveWithDescriptor(stream_->fd(), answer_.data() + said_,
                                                  relay::kAnswerBytes - said_, descriptor_);
      if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        stream_->Hear([self = shared_from_this()] { self->ReadAnswer(); });
        return;
      }
      if (count <= 0) {
        Retry("the machine closed the stream");
        return;
      }
      said_ += static_cast<size_t>(count);
    }
    const absl::string_view answer(answer_.data(), said_);
    if (answer == relay::kOk) {
      UniqueFd fd = std::exchange(stream_, nullptr)->Release();
      Finish(fd.valid() ? absl::StatusOr<Way>(Way{std::move(fd), true})
                        : absl::InternalError("a stream cannot be taken over"));
    } else if (answer == relay::kDescriptor && descriptor_.valid()) {
      lane_.Keep(std::exchange(stream_, nullptr));
      Finish(Way{std::move(descriptor_)});
    } else {
      Finish(absl::UnavailableError("the service does not answer"));
    }
  }

  ForwardLane& lane_;
  asio::steady_timer timer_;
  const std::string header_;
  ForwardLane::Opened opened_;
  const Clock::time_point give_up_;
  std::shared_ptr<IdleStream> stream_;
  bool kept_ = false;  // the stream was one of those that wait
  std::array<char, relay::kAnswerBytes> answer_{};
  size_t said_ = 0;
  UniqueFd descriptor_;
};

ForwardLane::ForwardLane(asio::io_context& io, asio::thread_pool& dialers, const Dial& dial)
    : io_(io), dialers_(dialers), dial_(dial) {}

ForwardLane::~ForwardLane() = default;

void ForwardLane::Open(const relay::StreamHeader& target, Opened opened) {
  std::make_shared<OpeningStream>(*this, target, std::move(opened))->Begin();
}

std::shared_ptr<IdleStream> ForwardLane::TakeIdle() {
  if (idle_.empty()) {
    return nullptr;
  }
  std::shared_ptr<IdleStream> stream = std::move(idle_.back());
  idle_.pop_back();
  return stream;
}

void ForwardLane::Keep(std::shared_ptr<IdleStream> stream) {
  if (idle_.size() >= kMaxIdle) {
    stream->Close();
    return;
  }
  stream->Hear(nullptr);
  idle_.push_back(std::move(stream));
}

void ForwardLane::Drop(const IdleStream* stream) {
  std::erase_if(idle_, [&](const auto& idle) { return idle.get() == stream; });
}

EndConnection ForwardConnection(ForwardLane& lane, UniqueFd client,
                                const relay::StreamHeader& target,
                                std::shared_ptr<relay::Traffic> traffic,
                                std::function<void()> done) {
  struct Connection {
    UniqueFd client;  // until it is relayed, or has been ended
    relay::EndRelay end;
  };
  // Small answers must not wait for an acknowledgement.
  const int on = 1;
  ::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const auto connection = std::make_shared<Connection>(Connection{std::move(client), nullptr});
  lane.Open(target, [&lane, connection, traffic = std::move(traffic),
                     done = std::move(done)](absl::StatusOr<Way> machine) mutable {
    if (!machine.ok() || !connection->client.valid()) {
      relay::ResetAndClose(std::move(connection->client));
      relay::ResetAndClose(machine.ok() ? std::move(machine->fd) : UniqueFd());
      done();
      return;
    }
    const auto start = machine->framed ? relay::StartFramedRelay : relay::StartRelay;
    connection->end = start(lane.io(), std::move(connection->client), std::move(machine->fd),
                            std::move(traffic), std::move(done));
  });
  return [connection] {
    relay::ResetAndClose(std::move(connection->client));
    if (connection->end) {
      connection->end();
    }
  };
}

}  // namespace vibe::host
