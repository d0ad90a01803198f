#include "host/port_forwarder.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <cerrno>
#include <chrono>
#include <future>
#include <map>
#include <random>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/status.h"
#include "host/forwarded_connection.h"
#include "host/port_owner.h"
#include "spdlog/spdlog.h"

namespace vibe::host {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kIoThreads = 2;
constexpr int kDialThreads = 4;
constexpr int kMaxConnections = 8000;  // two descriptors each
constexpr int kBacklog = 512;
// Below the ports that Linux (32768…) and macOS (49152…) give to outgoing connections, so that a
// project finds its port free again.
constexpr int kFirstPort = 20000;
constexpr int kLastPort = 32767;
constexpr int kTries = 200;

// A socket bound to 127.0.0.1:port, not listening. 0 as an errno is success.
int Bind(uint16_t port, UniqueFd& fd) {
  fd.reset(::socket(AF_INET, SOCK_STREAM, 0));
  const int on = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  // SO_REUSEADDR: connections of the last run may still be in TIME_WAIT.
  if (!fd.valid() || ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0 ||
      ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errno;
  }
  return 0;
}

absl::Status Conflict(const ForwardedPort& port, uint16_t host_port, int error) {
  if (error != EADDRINUSE && error != EACCES) {
    return ErrnoError(error, absl::StrCat("port 127.0.0.1:", host_port));
  }
  const std::string owner = PortOwner(host_port);
  return WithService(
      WithAdvice(Error(absl::StatusCode::kFailedPrecondition, Reason::kPortConflict,
                       absl::StrCat("port ", host_port, " of this computer, which belongs to port ",
                                    port.container_port, " of ", port.service, ", is taken by ",
                                    owner.empty() ? "another program" : owner)),
                 "end that program, then start the project again"),
      port.service);
}

// Its acceptor is touched on its strand only, once it is open.
class Listener : public std::enable_shared_from_this<Listener> {
 public:
  Listener(ForwardContext& context, std::atomic<int>& connections, UniqueFd fd,
           relay::StreamHeader target)
      : context_(context),
        connections_(connections),
        strand_(asio::make_strand(context.io)),
        acceptor_(strand_),
        timer_(strand_),
        fd_(std::move(fd)),
        target_(std::move(target)) {}

  absl::Status Open() {
    // Another program may have been as quick: a port that is bound only can be bound twice.
    if (::listen(fd_.get(), kBacklog) != 0) {
      return ErrnoError(errno, "listen");
    }
    error_code error;
    acceptor_.assign(tcp::v4(), fd_.get(), error);
    if (error) {
      return absl::InternalError(error.message());
    }
    fd_.release();
    asio::post(strand_, [self = shared_from_this()] { self->Accept(); });
    return absl::OkStatus();
  }

  // Returns when the port is free.
  void Close() {
    fd_.reset();
    std::promise<void> closed;
    asio::post(strand_, [this, &closed] {
      error_code ignored;
      acceptor_.close(ignored);
      timer_.cancel();
      closed.set_value();
    });
    closed.get_future().wait();
  }

 private:
  void Accept() {
    acceptor_.async_accept(
        context_.io, [self = shared_from_this()](const error_code& error, tcp::socket socket) {
          if (!self->acceptor_.is_open()) {
            return;
          }
          if (error) {
            // Out of descriptors, or a connection that was gone already.
            self->timer_.expires_after(std::chrono::milliseconds(50));
            self->timer_.async_wait([self](const error_code& stopped) {
              if (!stopped && self->acceptor_.is_open()) {
                self->Accept();
              }
            });
            return;
          }
          self->Forward(std::move(socket));
          self->Accept();
        });
  }

  void Forward(tcp::socket socket) {
    error_code error;
    UniqueFd client(socket.release(error));
    if (error) {
      client.release();
      return;
    }
    if (++connections_ > kMaxConnections) {
      --connections_;
      return;
    }
    ForwardConnection(context_, std::move(client), target_,
                      [&connections = connections_] { --connections; });
  }

  ForwardContext& context_;
  std::atomic<int>& connections_;
  asio::strand<asio::io_context::executor_type> strand_;
  tcp::acceptor acceptor_;
  asio::steady_timer timer_;
  UniqueFd fd_;  // until it is open
  const relay::StreamHeader target_;
};

}  // namespace

struct PortForwarder::Impl {
  struct Held {
    ForwardedPort port;
    std::shared_ptr<Listener> listener;
    bool open = false;
  };

  explicit Impl(Dial dial) : context{io, dialers, std::move(dial)} {
    for (int i = 0; i < kIoThreads; ++i) {
      threads.emplace_back([this] { io.run(); });
    }
  }

  absl::StatusOr<Held> Take(const std::string& project_id, const ForwardedPort& wanted,
                            const std::set<uint16_t>& avoid) {
    UniqueFd fd;
    uint16_t host_port = wanted.host_port;
    int error = EADDRINUSE;
    if (host_port != 0) {
      error = Bind(host_port, fd);
    } else {
      static thread_local std::mt19937 random{std::random_device()()};
      std::uniform_int_distribution<int> any(kFirstPort, kLastPort);
      for (int i = 0; i < kTries && error == EADDRINUSE; ++i) {
        host_port = static_cast<uint16_t>(any(random));
        if (avoid.count(host_port) == 0) {
          // Only a socket that listens shows a port that another one is bound to.
          error = Bind(host_port, fd);
        }
      }
    }
    if (error != 0) {
      return Conflict(wanted, host_port, error);
    }
    Held held{wanted, nullptr, false};
    held.port.host_port = host_port;
    held.listener = std::make_shared<Listener>(
        context, connections, std::move(fd),
        relay::StreamHeader{project_id, wanted.service, wanted.container_port});
    return held;
  }

  static void CloseAll(std::vector<Held>& ports) {
    for (const Held& held : ports) {
      held.listener->Close();
    }
    ports.clear();
  }

  asio::io_context io;
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  asio::thread_pool dialers{kDialThreads};
  std::atomic<int> connections{0};
  ForwardContext context;
  std::vector<std::thread> threads;
  mutable absl::Mutex mutex;
  std::map<std::string, std::vector<Held>> projects ABSL_GUARDED_BY(mutex);
};

PortForwarder::PortForwarder(Dial dial) : impl_(std::make_unique<Impl>(std::move(dial))) {}

PortForwarder::~PortForwarder() {
  CloseAll();
  impl_->dialers.stop();
  impl_->dialers.join();
  impl_->io.stop();
  for (std::thread& thread : impl_->threads) {
    thread.join();
  }
}

absl::Status PortForwarder::Reserve(const std::string& project_id,
                                    std::vector<ForwardedPort>& ports,
                                    const std::set<uint16_t>& avoid) {
  const absl::MutexLock lock(&impl_->mutex);
  std::vector<Impl::Held>& old = impl_->projects[project_id];
  std::vector<Impl::Held> taken;  // new ones
  std::vector<ForwardedPort> kept;
  std::set<uint16_t> used = avoid;
  for (const ForwardedPort& port : ports) {
    used.insert(port.host_port);
  }
  for (ForwardedPort& wanted : ports) {
    const auto same = std::find_if(old.begin(), old.end(), [&](const Impl::Held& held) {
      return held.port.service == wanted.service &&
             held.port.container_port == wanted.container_port &&
             (wanted.host_port == 0 || held.port.host_port == wanted.host_port);
    });
    if (same != old.end()) {
      wanted.host_port = same->port.host_port;
      kept.push_back(same->port);
      continue;
    }
    absl::StatusOr<Impl::Held> held = impl_->Take(project_id, wanted, used);
    if (!held.ok()) {
      Impl::CloseAll(taken);
      return held.status();
    }
    wanted.host_port = held->port.host_port;
    used.insert(wanted.host_port);
    taken.push_back(std::move(*held));
  }
  const auto unwanted = std::stable_partition(old.begin(), old.end(), [&](const Impl::Held& held) {
    return std::any_of(kept.begin(), kept.end(), [&](const ForwardedPort& port) {
      return port.host_port == held.port.host_port;
    });
  });
  std::for_each(unwanted, old.end(), [](const Impl::Held& held) { held.listener->Close(); });
  old.erase(unwanted, old.end());
  std::move(taken.begin(), taken.end(), std::back_inserter(old));
  return absl::OkStatus();
}

absl::Status PortForwarder::Open(const std::string& project_id) {
  const absl::MutexLock lock(&impl_->mutex);
  for (Impl::Held& held : impl_->projects[project_id]) {
    if (held.open) {
      continue;
    }
    if (const absl::Status status = held.listener->Open(); !status.ok()) {
      return Conflict(held.port, held.port.host_port, EADDRINUSE);
    }
    held.open = true;
    spdlog::info("127.0.0.1:{} leads to port {} of {} of project {}", held.port.host_port,
                 held.port.container_port, held.port.service, project_id);
  }
  return absl::OkStatus();
}

void PortForwarder::Close(const std::string& project_id) {
  const absl::MutexLock lock(&impl_->mutex);
  const auto found = impl_->projects.find(project_id);
  if (found != impl_->projects.end()) {
    Impl::CloseAll(found->second);
    impl_->projects.erase(found);
  }
}

void PortForwarder::CloseAll() {
  const absl::MutexLock lock(&impl_->mutex);
  for (auto& [id, ports] : impl_->projects) {
    Impl::CloseAll(ports);
  }
  impl_->projects.clear();
}

bool PortForwarder::IsOpen(const std::string& project_id) const {
  const absl::MutexLock lock(&impl_->mutex);
  const auto found = impl_->projects.find(project_id);
  return found != impl_->projects.end() &&
         std::all_of(found->second.begin(), found->second.end(),
                     [](const Impl::Held& held) { return held.open; });
}

}  // namespace vibe::host
