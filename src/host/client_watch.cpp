#include "host/client_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/time/clock.h"

namespace vibe::host {
namespace {

constexpr int kPollMilliseconds = 1000;

void MakePipe(UniqueFd& read, UniqueFd& write) {
  int fds[2] = {-1, -1};
  if (::pipe(fds) != 0) {
    return;  // then changes are seen at the next turn
  }
  read.reset(fds[0]);
  write.reset(fds[1]);
  for (const int fd : fds) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(fd, F_SETFL, O_NONBLOCK);
  }
}

}  // namespace

ClientWatch::ClientWatch(absl::Duration heartbeat) : heartbeat_(heartbeat) {
  MakePipe(wake_read_, wake_write_);
  thread_ = std::thread([this] { Run(); });
}

ClientWatch::~ClientWatch() {
  {
    const absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  Wake();
  thread_.join();
}

ClientWatch::Registration::Registration(ClientWatch& owner, int fd, Cancellation& cancel,
                                        std::function<void()> heartbeat)
    : owner_(owner) {
  {
    const absl::MutexLock lock(&owner_.mutex_);
    id_ = owner_.next_id_++;
    owner_.clients_[id_] = {fd, &cancel, std::move(heartbeat), POLLIN,
                            absl::Now() + owner_.heartbeat_};
  }
  owner_.Wake();
}

ClientWatch::Registration::~Registration() {
  const absl::MutexLock lock(&owner_.mutex_);
  owner_.clients_.erase(id_);
}

void ClientWatch::Wake() {
  const char byte = 0;
  // A full pipe wakes as well.
  if (::write(wake_write_.get(), &byte, 1) < 0) {
    return;
  }
}

void ClientWatch::Check(Client& client, short events) {
  if ((events & POLLIN) != 0) {
    char byte = 0;
    const ssize_t count = ::recv(client.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (count == 0) {
      events |= POLLHUP;
    } else if (count > 0) {
      client.events = 0;  // it stays readable, and its end is told as a hang-up from now on
    }
  }
  if ((events & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
    client.cancel->Cancel();
    client.events = -1;
  } else if (absl::Now() >= client.next_heartbeat) {
    client.next_heartbeat = absl::Now() + heartbeat_;
    if (client.heartbeat) {
      client.heartbeat();
    }
  }
}

void ClientWatch::Run() {
  while (true) {
    std::vector<pollfd> polled = {{wake_read_.get(), POLLIN, 0}};
    std::vector<uint64_t> ids = {0};
    {
      const absl::MutexLock lock(&mutex_);
      if (stop_) {
        return;
      }
      for (const auto& [id, client] : clients_) {
        if (client.events >= 0) {
          polled.push_back({client.fd, client.events, 0});
          ids.push_back(id);
        }
      }
    }
    ::poll(polled.data(), static_cast<nfds_t>(polled.size()), kPollMilliseconds);
    char bytes[64];
    while (::read(wake_read_.get(), bytes, sizeof bytes) > 0) {
    }
    const absl::MutexLock lock(&mutex_);
    for (size_t i = 1; i < polled.size(); ++i) {
      // One that is gone by now may have had its descriptor's number taken by another.
      if (const auto found = clients_.find(ids[i]); found != clients_.end()) {
        Check(found->second, polled[i].revents);
      }
    }
  }
}

}  // namespace vibe::host
