#include "supervisor/forward_datagrams.h"

#include <sys/socket.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <memory>
#include <utility>

#include "relay/datagram_stream.h"
#include "relay/stream_socket.h"
#include "supervisor/service_socket.h"

namespace vibe::supervisor {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Descriptor = asio::posix::stream_descriptor;

constexpr int kReadsPerTurn = 64;

class Flow : public std::enable_shared_from_this<Flow> {
 public:
  Flow(asio::io_context& context, UniqueFd service, std::function<void()> done)
      : host_(std::make_shared<relay::DatagramStream>(context)),
        service_(context, service.release()),
        done_(std::move(done)) {}

  void Start(UniqueFd host) {
    host_->Start(
        std::move(host), [self = shared_from_this()](absl::string_view d) { self->Pass(d); },
        [self = shared_from_this()] { self->End(); });
    Wait();
  }

 private:
  void Pass(absl::string_view datagram) {
    // Refused and dropped ones are lost, as they would be without us between.
    (void)::send(service_.native_handle(), datagram.data(), datagram.size(),
                 MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  void Wait() {
    service_.async_wait(Descriptor::wait_read,
                        [self = shared_from_this()](const error_code& error) {
                          if (!error) {
                            self->Read();
                          }
                        });
  }

  void Read() {
    for (int i = 0; i < kReadsPerTurn; ++i) {
      const ssize_t count =
          ::recv(service_.native_handle(), relay::Scratch(), relay::kScratchBytes, MSG_DONTWAIT);
      if (count >= 0) {
        host_->Send(absl::string_view(relay::Scratch(), static_cast<size_t>(count)));
      } else if (errno == EAGAIN) {
        break;
      }
      // ECONNREFUSED: the service does not listen, yet.
    }
    Wait();
  }

  void End() {
    error_code ignored;
    service_.close(ignored);
    std::exchange(done_, nullptr)();
  }

  const std::shared_ptr<relay::DatagramStream> host_;
  Descriptor service_;
  std::function<void()> done_;
};

}  // namespace

absl::StatusOr<UniqueFd> ConnectDatagrams(const Supervisor::Target& target) {
  absl::Status why = absl::UnavailableError("the service has no address");
  for (const std::string& address : target.addresses) {
    absl::StatusOr<UniqueFd> fd = ConnectToService(address, target.port, SOCK_DGRAM);
    if (fd.ok()) {
      return fd;
    }
    why = fd.status();
  }
  return why;
}

void StartDatagrams(asio::io_context& context, UniqueFd host, UniqueFd service,
                    std::function<void()> done) {
  std::make_shared<Flow>(context, std::move(service), std::move(done))->Start(std::move(host));
}

}  // namespace vibe::supervisor
