#include "supervisor/forward_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "base/descriptor.h"
#include "relay/framed_relay.h"
#include "relay/io_threads.h"
#include "relay/stream_socket.h"
#include "spdlog/spdlog.h"
#include "supervisor/forward_datagrams.h"
#include "supervisor/service_socket.h"

namespace vibe::supervisor {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::chrono::seconds kHeaderTimeout(10);
constexpr std::chrono::seconds kDialTimeout(10);
constexpr std::chrono::milliseconds kFindPause(20);
constexpr absl::Duration kRoomPause = absl::Milliseconds(20);

// One stream of the host: until its connection is handed to the relay, or for as long as it asks
// for connections that it gets itself. All on the context's one thread.
class Forward : public std::enable_shared_from_this<Forward> {
 public:
  Forward(asio::io_context& context, const ForwardServer::Resolver& resolver,
          std::shared_ptr<std::atomic<size_t>> count)
      : context_(context),
        host_(context),
        dialled_(context),
        timer_(context),
        again_(context),
        resolver_(resolver),
        count_(std::move(count)) {
    ++*count_;
  }
  ~Forward() {
    if (dialled_.is_open()) {
      (void)service_.release();  // it closes it
    }
    if (!handed_over_) {
      --*count_;
    }
  }

  void Begin(UniqueFd connection) {
    shares_kernel_ = relay::FamilyOf(connection.get()) == AF_UNIX;
    if (const error_code error = relay::Assign(host_, std::move(connection))) {
      spdlog::warn("cannot take a forwarded connection: {}", error.message());
      return;
    }
    SetTimer(kHeaderTimeout, "no header came in time");
    ReadHeader();
  }

 private:
  void SetTimer(std::chrono::seconds after, const char* message) {
    timer_.expires_after(after);
    timer_.async_wait([self = shared_from_this(), message](const error_code& error) {
      if (!error) {
        self->Refuse(message);
      }
    });
  }

  // Only the header's own bytes are taken: what follows belongs to the relay.
  void ReadHeader() {
    host_.async_wait(relay::StreamSocket::wait_read,
                     [self = shared_from_this()](const error_code& error) {
                       if (!error) {
                         self->PeekHeader();
                       }
                     });
  }

  void PeekHeader() {
    if (done_) {
      return;
    }
    std::array<char, relay::kMaxHeaderBytes + 1> buffer;
    error_code error;
    const size_t seen = host_.receive(asio::buffer(buffer), asio::socket_base::message_peek, error);
    if (error == asio::error::would_block) {
      ReadHeader();
      return;
    }
    if (error) {
      timer_.cancel();
      return;
    }
    const absl::string_view text(buffer.data(), seen);
    const size_t end = text.find('\n');
    const size_t take = end == absl::string_view::npos ? seen : end + 1;
    header_.append(buffer.data(), take);
    host_.receive(asio::buffer(buffer.data(), take), 0, error);
    if (error || header_.size() > relay::kMaxHeaderBytes) {
      Refuse("the header is too long");
    } else if (end == absl::string_view::npos) {
      ReadHeader();
    } else {
      Resolve();
    }
  }

  void Resolve() {
    const auto header =
        relay::ParseHeader(absl::string_view(header_).substr(0, header_.size() - 1));
    if (!header.ok()) {
      Refuse(header.status().message());
      return;
    }
    SetTimer(kDialTimeout, "the service does not answer");
    Find(*header);
  }

  void Find(const relay::StreamHeader& header) {
    if (done_) {
      return;
    }
    auto target = resolver_(header);
    if (absl::IsUnavailable(target.status())) {
      again_.expires_after(kFindPause);
      again_.async_wait([self = shared_from_this(), header](const error_code& error) {
        if (!error) {
          self->Find(header);
        }
      });
      return;
    }
    if (!target.ok()) {
      Refuse(target.status().message());
      return;
    }
    target_ = *std::move(target);
    if (header.protocol == relay::Protocol::kUdp) {
      ForwardDatagrams();
      return;
    }
    Dial(0);
  }

  void Dial(size_t attempt) {
    absl::StatusOr<UniqueFd> service =
        ConnectToService(target_.addresses[attempt], target_.port, SOCK_STREAM);
    if (!service.ok()) {
      OnDialled(attempt, service.status());
      return;
    }
    service_ = *std::move(service);
    // A service on the same kernel has mostly answered by now.
    pollfd answered{service_.get(), POLLOUT, 0};
    if (::poll(&answered, 1, 0) == 1) {
      OnDialled(attempt, ConnectResult(service_.get()));
      return;
    }
    dialled_.assign(service_.get());
    dialled_.async_wait(asio::posix::stream_descriptor::wait_write,
                        [self = shared_from_this(), attempt](const error_code& error) {
                          self->dialled_.release();
                          if (!error) {
                            self->OnDialled(attempt, ConnectResult(self->service_.get()));
                          }
                        });
  }

  void ForwardDatagrams() {
    absl::StatusOr<UniqueFd> service = ConnectDatagrams(target_);
    if (!service.ok()) {
      Refuse(service.status().message());
      return;
    }
    Answer(relay::kOk,
           [self = shared_from_this(), held = std::make_shared<UniqueFd>(*std::move(service))] {
             error_code error;
             UniqueFd host(self->host_.release(error));
             self->handed_over_ = true;
             StartDatagrams(self->context_, std::move(host), std::move(*held),
                            [count = self->count_] { --*count; });
           });
  }

  void OnDialled(size_t attempt, const absl::Status& status) {
    if (done_) {
      return;
    }
    if (status.ok()) {
      const int on = 1;
      ::setsockopt(service_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      if (shares_kernel_) {
        Give();
      } else {
        Answer(relay::kOk, [self = shared_from_this()] { self->HandOver(); });
      }
      return;
    }
    service_.reset();
    if (attempt + 1 < target_.addresses.size()) {
      Dial(attempt + 1);
      return;
    }
    Refuse(absl::StrCat("port ", target_.port, ": ", status.message()));
  }

  void Refuse(absl::string_view message) {
    if (done_) {
      return;
    }
    std::string line = absl::StrCat("ERR ", absl::StrReplaceAll(message, {{"\n", " "}}));
    line.resize(std::min(line.size(), relay::kMaxHeaderBytes - 1));
    Abandon();
    Answer(line + "\n", [] {});
  }

  void Abandon() {
    if (dialled_.is_open()) {
      dialled_.cancel();
    } else {
      service_.reset();
    }
  }

  // The host gets the connection and may ask for the next one.
  void Give() {
    timer_.cancel();
    const bool given = SendWithDescriptor(host_.native_handle(), relay::kDescriptor,
                                          service_.get()) == ssize_t{relay::kAnswerBytes};
    service_.reset();
    if (given) {
      header_.clear();
      ReadHeader();
    }
  }

  void Answer(std::string text, std::function<void()> then) {
    done_ = true;
    timer_.cancel();
    answer_ = std::move(text);
    asio::async_write(
        host_, asio::buffer(answer_),
        [self = shared_from_this(), then = std::move(then)](const error_code& error, size_t) {
          if (!error) {
            then();
          }
        });
  }

  void HandOver() {
    error_code error;
    UniqueFd host(host_.release(error));
    handed_over_ = true;
    relay::StartFramedRelay(context_, std::move(service_), std::move(host), nullptr,
                            [count = count_] { --*count; });
  }

  asio::io_context& context_;
  relay::StreamSocket host_;
  UniqueFd service_;
  asio::posix::stream_descriptor dialled_;  // the same, while it is waited for
  asio::steady_timer timer_, again_;
  const ForwardServer::Resolver& resolver_;
  const std::shared_ptr<std::atomic<size_t>> count_;
  std::string header_, answer_;
  Supervisor::Target target_;
  bool shares_kernel_ = false;
  bool done_ = false;  // an answer is on its way
  bool handed_over_ = false;
};

}  // namespace

class ForwardServer::Core {
 public:
  explicit Core(Resolver resolver) : resolver_(std::move(resolver)) {}

  void Stop() {
    stopped_ = true;
    threads_.Stop();
  }

  // What waits stays in its listener's queue until some are free.
  void Add(UniqueFd connection) {
    while (*count_ >= kMaxForwards && !stopped_) {
      absl::SleepFor(kRoomPause);
    }
    asio::io_context& context = threads_.Next();
    auto forward = std::make_shared<Forward>(context, resolver_, count_);
    asio::post(context, [forward, held = std::make_shared<UniqueFd>(std::move(connection))] {
      forward->Begin(std::move(*held));
    });
  }

 private:
  const Resolver resolver_;
  const std::shared_ptr<std::atomic<size_t>> count_ = std::make_shared<std::atomic<size_t>>(0);
  std::atomic<bool> stopped_{false};
  relay::IoThreads threads_;
};

ForwardServer::ForwardServer(Resolver resolver)
    : core_(std::make_unique<Core>(std::move(resolver))) {}

ForwardServer::~ForwardServer() = default;

void ForwardServer::Add(UniqueFd connection) {
  core_->Add(std::move(connection));
}

void ForwardServer::Stop() {
  core_->Stop();
}

}  // namespace vibe::supervisor
