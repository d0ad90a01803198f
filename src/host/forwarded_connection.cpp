#include "host/forwarded_connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "relay/relay.h"
#include "spdlog/spdlog.h"

namespace vibe::host {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Protocol = asio::generic::stream_protocol;
using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(10);
constexpr auto kRetryPause = std::chrono::milliseconds(100);
constexpr char kOk[] = "OK\n";
constexpr size_t kAnswerBytes = sizeof kOk - 1;  // what follows belongs to the service

// Its members are touched on its strand only.
class Pending : public std::enable_shared_from_this<Pending> {
 public:
  Pending(ForwardContext& context, UniqueFd client, const relay::StreamHeader& target,
          std::function<void()> done)
      : context_(context),
        strand_(asio::make_strand(context.io)),
        timer_(strand_),
        socket_(strand_),
        client_(std::move(client)),
        header_(relay::FormatHeader(target)),
        done_(std::move(done)),
        give_up_(Clock::now() + kPatience) {}

  void Dial() {
    asio::post(context_.dialers, [self = shared_from_this()] {
      auto fd = std::make_shared<absl::StatusOr<UniqueFd>>(self->context_.dial());
      asio::post(self->strand_, [self, fd] {
        if (fd->ok()) {
          self->Ask(std::move(*fd).value());
        } else {
          self->Retry(std::string(fd->status().message()));
        }
      });
    });
  }

 private:
  void Retry(const std::string& why) {
    error_code ignored;
    socket_.close(ignored);
    if (Clock::now() + kRetryPause > give_up_) {
      Fail(why);
      return;
    }
    timer_.expires_after(kRetryPause);
    timer_.async_wait([self = shared_from_this()](const error_code&) { self->Dial(); });
  }

  void Fail(const std::string& why) {
    spdlog::info("a connection to {} failed: {}", header_.substr(0, header_.size() - 1), why);
    relay::ResetAndClose(std::move(client_));
    done_();
  }

  void Ask(UniqueFd machine) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    ::getsockname(machine.get(), reinterpret_cast<sockaddr*>(&address), &size);
    error_code error;
    socket_.assign(Protocol(address.ss_family, 0), machine.get(), error);
    if (error) {
      Fail(error.message());
      return;
    }
    machine.release();
    timer_.expires_at(give_up_);
    timer_.async_wait([self = shared_from_this()](const error_code& stopped) {
      if (!stopped) {
        self->socket_.cancel();
      }
    });
    asio::async_write(socket_, asio::buffer(header_),
                      [self = shared_from_this()](const error_code& failed, size_t) {
                        if (failed) {
                          self->Retry(failed.message());
                        } else {
                          self->ReadAnswer();
                        }
                      });
  }

  void ReadAnswer() {
    asio::async_read(socket_, asio::buffer(answer_),
                     [self = shared_from_this()](const error_code& failed, size_t) {
                       if (failed) {
                         self->Retry(failed.message());
                       } else if (std::string(self->answer_.data(), kAnswerBytes) != kOk) {
                         self->Fail("the service does not answer");
                       } else {
                         self->HandOver();
                       }
                     });
  }

  void HandOver() {
    timer_.cancel();
    error_code error;
    UniqueFd machine(socket_.release(error));
    if (error) {
      machine.release();
      Fail(error.message());
      return;
    }
    relay::StartRelay(context_.io, std::move(client_), std::move(machine), std::move(done_));
  }

  ForwardContext& context_;
  asio::strand<asio::io_context::executor_type> strand_;
  asio::steady_timer timer_;
  Protocol::socket socket_;
  UniqueFd client_;
  const std::string header_;
  std::function<void()> done_;
  const Clock::time_point give_up_;
  std::array<char, kAnswerBytes> answer_{};
};

}  // namespace

void ForwardConnection(ForwardContext& context, UniqueFd client, const relay::StreamHeader& target,
                       std::function<void()> done) {
  // Small answers must not wait for an acknowledgement.
  const int on = 1;
  ::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  std::make_shared<Pending>(context, std::move(client), target, std::move(done))->Dial();
}

}  // namespace vibe::host
