#include "host/api_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <list>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "host/api_exchange.h"
#include "host/client_watch.h"
#include "host/http_connection.h"
#include "spdlog/spdlog.h"

namespace vibe::host {

struct ApiServer::Impl {
  struct Client {
    Client(UniqueFd fd, const Options& options)
        : connection(std::move(fd), {{"Vibe-Version", options.version}},
                     {options.idle, options.request, options.write}) {}

    HttpConnection connection;
    Cancellation closing;  // of the request that runs, or the next one
    std::thread thread;
    bool done = false;  // guarded by the server's mutex
  };

  Impl(UniqueFd fd, std::vector<Route> served, Options wanted)
      : listener(std::move(fd)),
        routes(std::move(served)),
        options(std::move(wanted)),
        watch(options.heartbeat) {
    ::fcntl(listener.get(), F_SETFL, O_NONBLOCK);
    int fds[2] = {-1, -1};
    if (::pipe(fds) == 0) {
      wake_read.reset(fds[0]);
      wake_write.reset(fds[1]);
      ::fcntl(fds[0], F_SETFD, FD_CLOEXEC);
      ::fcntl(fds[1], F_SETFD, FD_CLOEXEC);
      ::fcntl(fds[1], F_SETFL, O_NONBLOCK);
    }
    acceptor = std::thread([this] { Accept(); });
  }

  ~Impl() {
    {
      const absl::MutexLock lock(&mutex);
      wake_write.reset();
    }
    acceptor.join();
    {
      const absl::MutexLock lock(&mutex);
      for (Client& client : clients) {
        client.closing.Cancel();
        client.connection.Shutdown();
      }
    }
    for (Client& client : clients) {
      client.thread.join();
    }
  }

  void Accept() {
    while (true) {
      pollfd polled[] = {{listener.get(), POLLIN, 0}, {wake_read.get(), POLLIN, 0}};
      ::poll(polled, 2, -1);
      char bytes[64];
      if (polled[1].revents != 0 && ::read(wake_read.get(), bytes, sizeof bytes) <= 0) {
        return;
      }
      Reap();
      UniqueFd fd(::accept(listener.get(), nullptr, nullptr));
      if (!fd.valid()) {
        if (errno == EMFILE || errno == ENFILE) {
          absl::SleepFor(absl::Milliseconds(50));
        }
        continue;
      }
      ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
      Take(std::move(fd));
    }
  }

  void Take(UniqueFd fd) {
    const absl::MutexLock lock(&mutex);
    if (clients.size() >= static_cast<size_t>(options.max_connections)) {
      Options hasty = options;
      hasty.write = absl::ZeroDuration();
      Client refused(std::move(fd), hasty);
      AnswerError(refused.connection,
                  WithAdvice(absl::ResourceExhaustedError("vibed has too many connections"),
                             "end some `vibe logs -f` or `vibe exec`, then try again"),
                  0, false);
      return;
    }
    Client& client = clients.emplace_back(std::move(fd), options);
    client.thread = std::thread([this, &client] { Serve(client); });
  }

  void Reap() {
    const absl::MutexLock lock(&mutex);
    for (auto it = clients.begin(); it != clients.end();) {
      if (it->done) {
        it->thread.join();
        it = clients.erase(it);
      } else {
        ++it;
      }
    }
  }

  void Serve(Client& client) {
    const Exchange exchange{routes, watch, options.write};
    while (true) {
      const absl::StatusOr<std::optional<HttpRequest>> request = client.connection.ReadRequest();
      if (!request.ok()) {
        AnswerError(client.connection, request.status(), client.connection.http_status(), false);
        break;
      }
      if (!*request || !Answer(exchange, client.connection, **request, client.closing)) {
        break;
      }
    }
    client.connection.Shutdown();
    const absl::MutexLock lock(&mutex);
    client.done = true;
    const char byte = 0;
    if (::write(wake_write.get(), &byte, 1) < 0) {
      return;  // the server ends, and joins all
    }
  }

  const UniqueFd listener;
  const std::vector<Route> routes;
  const Options options;
  ClientWatch watch;
  UniqueFd wake_read;
  UniqueFd wake_write;  // a byte: a client is done; closed: the end
  absl::Mutex mutex;
  std::list<Client> clients ABSL_GUARDED_BY(mutex);
  std::thread acceptor;
};

ApiServer::ApiServer(UniqueFd listener, std::vector<Route> routes, Options options)
    : impl_(std::make_unique<Impl>(std::move(listener), std::move(routes), std::move(options))) {}

ApiServer::~ApiServer() = default;

}  // namespace vibe::host
