#include "supervisor/forward_server.h"

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "relay/relay.h"
#include "spdlog/spdlog.h"

namespace vibe::supervisor {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using HostProtocol = asio::generic::stream_protocol;
using HostSocket = HostProtocol::socket;
using ServiceSocket = asio::ip::tcp::socket;

constexpr int kThreads = 2;
constexpr std::chrono::seconds kHeaderTimeout(10);
constexpr std::chrono::seconds kDialTimeout(10);
constexpr absl::Duration kRoomPause = absl::Milliseconds(20);

// One connection until it is handed to the relay. Everything runs on the strand of both sockets.
class Forward : public std::enable_shared_from_this<Forward> {
 public:
  Forward(asio::io_context& context, HostSocket host, const ForwardServer::Resolver& resolver,
          std::shared_ptr<std::atomic<size_t>> count)
      : context_(context),
        host_(std::move(host)),
        service_(host_.get_executor()),
        timer_(host_.get_executor()),
        resolver_(resolver),
        count_(std::move(count)) {
    ++*count_;
  }
  ~Forward() {
    if (!handed_over_) {
      --*count_;
    }
  }

  void Begin() {
    asio::post(host_.get_executor(), [self = shared_from_this()] { self->Start(); });
  }

 private:
  void Start() {
    error_code ignored;
    host_.non_blocking(true, ignored);
    SetTimer(kHeaderTimeout, "no header came in time");
    ReadHeader();
  }

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
    host_.async_wait(HostSocket::wait_read, [self = shared_from_this()](const error_code& error) {
      if (!error) {
        self->PeekHeader();
      }
    });
  }

  void PeekHeader() {
    if (done_) {
      return;
    }
    std::array<char, relay::kMaxHeaderBytes + 1> buffer{};
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
    auto target = resolver_(*header);
    if (!target.ok()) {
      Refuse(target.status().message());
      return;
    }
    target_ = *std::move(target);
    SetTimer(kDialTimeout, "the service does not answer");
    Dial(0);
  }

  void Dial(size_t attempt) {
    error_code error;
    const auto address = asio::ip::make_address(target_.addresses[attempt], error);
    if (error) {
      Refuse(error.message());
      return;
    }
    service_.async_connect({address, target_.port},
                           [self = shared_from_this(), attempt](const error_code& failed) {
                             self->OnDialled(attempt, failed);
                           });
  }

  void OnDialled(size_t attempt, const error_code& error) {
    if (done_) {
      return;
    }
    if (!error) {
      Answer("OK\n", true);
      return;
    }
    if (attempt + 1 < target_.addresses.size()) {
      error_code ignored;
      service_.close(ignored);
      Dial(attempt + 1);
      return;
    }
    Refuse(absl::StrCat("port ", target_.port, ": ", error.message()));
  }

  void Refuse(absl::string_view message) {
    if (done_) {
      return;
    }
    std::string line = absl::StrCat("ERR ", absl::StrReplaceAll(message, {{"\n", " "}}));
    line.resize(std::min(line.size(), relay::kMaxHeaderBytes - 1));
    Answer(line + "\n", false);
  }

  void Answer(std::string text, bool connected) {
    done_ = true;
    timer_.cancel();
    error_code ignored;
    if (!connected) {
      service_.close(ignored);
    }
    answer_ = std::move(text);
    asio::async_write(host_, asio::buffer(answer_),
                      [self = shared_from_this(), connected](const error_code& error, size_t) {
                        if (connected && !error) {
                          self->HandOver();
                        }
                      });
  }

  void HandOver() {
    error_code error;
    service_.set_option(asio::ip::tcp::no_delay(true), error);
    UniqueFd host(host_.release(error));
    UniqueFd service(service_.release(error));
    handed_over_ = true;
    relay::StartRelay(context_, std::move(host), std::move(service),
                      [count = count_] { --*count; });
  }

  asio::io_context& context_;
  HostSocket host_;
  ServiceSocket service_;
  asio::steady_timer timer_;
  const ForwardServer::Resolver& resolver_;
  const std::shared_ptr<std::atomic<size_t>> count_;
  std::string header_, answer_;
  Supervisor::Target target_;
  bool done_ = false;  // an answer is on its way
  bool handed_over_ = false;
};

}  // namespace

class ForwardServer::Core {
 public:
  explicit Core(Resolver resolver)
      : resolver_(std::move(resolver)),
        context_(std::make_unique<asio::io_context>(kThreads)),
        work_(context_->get_executor()) {
    for (int i = 0; i < kThreads; ++i) {
      threads_.emplace_back([this] { context_->run(); });
    }
  }

  ~Core() {
    Stop();
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }

  void Stop() { context_->stop(); }

  // What waits stays in its listener's queue until some are free.
  void Add(UniqueFd connection) {
    while (*count_ >= kMaxForwards && !context_->stopped()) {
      absl::SleepFor(kRoomPause);
    }
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    ::getsockname(connection.get(), reinterpret_cast<sockaddr*>(&address), &size);
    HostSocket host(asio::make_strand(*context_));
    error_code error;
    host.assign(HostProtocol(address.ss_family, 0), connection.get(), error);
    if (error) {
      spdlog::warn("cannot take a forwarded connection: {}", error.message());
      return;
    }
    (void)connection.release();
    auto forward = std::make_shared<Forward>(*context_, std::move(host), resolver_, count_);
    forward->Begin();
  }

 private:
  const Resolver resolver_;
  const std::shared_ptr<std::atomic<size_t>> count_ = std::make_shared<std::atomic<size_t>>(0);
  std::unique_ptr<asio::io_context> context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::vector<std::thread> threads_;
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
