#include "host/port_forwarder.h"

#include <algorithm>
#include <boost/asio/thread_pool.hpp>
#include <cerrno>
#include <map>
#include <random>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/status.h"
#include "host/port_listener.h"
#include "host/port_owner.h"
#include "host/port_socket.h"
#include "relay/io_threads.h"
#include "spdlog/spdlog.h"

namespace vibe::host {
namespace {

constexpr int kDialThreads = 4;
// Below the ports that Linux (32768…) and macOS (49152…) give to outgoing connections, so that a
// project finds its port free again.
constexpr int kFirstPort = 20000;
constexpr int kLastPort = 32767;
constexpr int kTries = 200;
constexpr int kFirstUnprivileged = 1024;

// Whether it may have been chosen here.
bool IsOurs(uint16_t host_port) {
  return host_port >= kFirstPort && host_port <= kLastPort;
}

const char* Suffix(relay::Protocol protocol) {
  return protocol == relay::Protocol::kUdp ? "/udp" : "";
}

std::string Choosing(const ForwardedPort& port) {
  return absl::StrCat("`vibe open FOLDER --name NAME --port ", port.service,
                      ":PORT:", port.container_port, Suffix(port.protocol), "`");
}

absl::Status Conflict(const ForwardedPort& port, uint16_t host_port, int error) {
  const std::string what = absl::StrCat("port ", host_port, Suffix(port.protocol),
                                        " of this computer, which is to lead to port ",
                                        port.container_port, " of ", port.service, ", ");
  if (error == EACCES && host_port < kFirstUnprivileged) {
    return WithService(
        WithAdvice(Error(absl::StatusCode::kFailedPrecondition, Reason::kPortConflict,
                         absl::StrCat(what, "is for programs of root only")),
                   absl::StrCat("choose one from ", kFirstUnprivileged, " on: ", Choosing(port))),
        port.service);
  }
  if (error != EADDRINUSE && error != EACCES) {
    return ErrnoError(error, absl::StrCat("port 127.0.0.1:", host_port));
  }
  const std::string owner = PortOwner(host_port, port.protocol);
  return WithService(
      WithAdvice(
          Error(absl::StatusCode::kFailedPrecondition, Reason::kPortConflict,
                absl::StrCat(what, "is taken by ", owner.empty() ? "another program" : owner)),
          absl::StrCat("end that program and try again, or choose another port: ", Choosing(port))),
      port.service);
}

// Two ports of a project that are to change places: neither can be bound while the other is.
absl::Status OwnConflict(const ForwardedPort& held) {
  return WithService(
      WithAdvice(Error(absl::StatusCode::kFailedPrecondition, Reason::kPortConflict,
                       absl::StrCat("port ", held.host_port, Suffix(held.protocol),
                                    " of this computer leads to port ", held.container_port, " of ",
                                    held.service, " until that has another one")),
                 absl::StrCat("first choose another one for it: ", Choosing(held))),
      held.service);
}

bool SamePort(const ForwardedPort& a, const ForwardedPort& b) {
  return a.service == b.service && a.container_port == b.container_port && a.protocol == b.protocol;
}

}  // namespace

struct PortForwarder::Impl {
  struct Held {
    ForwardedPort port;
    std::shared_ptr<PortCounters> counters;
    std::shared_ptr<PortListener> listener;
    bool open = false;
  };

  explicit Impl(Dial given) : dial(std::move(given)) {
    for (size_t i = 0; i < threads.size(); ++i) {
      lanes.lanes.push_back(std::make_unique<ForwardLane>(threads.context(i), dialers, dial));
    }
  }

  absl::StatusOr<Held> Take(const std::string& project_id, const ForwardedPort& wanted,
                            const std::set<uint16_t>& avoid) {
    PortSockets sockets;
    uint16_t host_port = wanted.host_port;
    int error = EADDRINUSE;
    if (host_port != 0) {
      error = BindPort(host_port, wanted.protocol, sockets);
    } else {
      static thread_local std::mt19937 random{std::random_device()()};
      std::uniform_int_distribution<int> any(kFirstPort, kLastPort);
      for (int i = 0; i < kTries && error == EADDRINUSE; ++i) {
        host_port = static_cast<uint16_t>(any(random));
        if (avoid.count(host_port) == 0) {
          // Only a socket that listens shows a port that another one is bound to.
          error = BindPort(host_port, wanted.protocol, sockets);
        }
      }
    }
    if (error != 0) {
      return Conflict(wanted, host_port, error);
    }
    Held held{wanted, std::make_shared<PortCounters>(), nullptr, false};
    held.port.host_port = host_port;
    held.listener = MakePortListener(
        lanes, std::move(sockets),
        {project_id, wanted.service, wanted.container_port, wanted.protocol}, held.counters);
    return held;
  }

  absl::Status Reserve(const std::string& project_id, std::vector<ForwardedPort>& ports,
                       const std::set<uint16_t>& avoid, bool all)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  static void CloseAll(std::vector<Held>& ports) {
    for (const Held& held : ports) {
      held.listener->Close();
    }
    ports.clear();
  }

  const Dial dial;
  boost::asio::thread_pool dialers{kDialThreads};
  PortLanes lanes;
  relay::IoThreads threads;
  mutable absl::Mutex mutex;
  std::map<std::string, std::vector<Held>> projects ABSL_GUARDED_BY(mutex);
  std::set<std::string> incomplete ABSL_GUARDED_BY(mutex);  // hold not all that was asked for
};

PortForwarder::PortForwarder(Dial dial) : impl_(std::make_unique<Impl>(std::move(dial))) {}

PortForwarder::~PortForwarder() {
  CloseAll();
  impl_->dialers.stop();
  impl_->dialers.join();
  impl_->threads.Stop();
  impl_->lanes.lanes.clear();  // their sockets belong to the threads' contexts
}

absl::Status PortForwarder::Reserve(const std::string& project_id,
                                    std::vector<ForwardedPort>& ports,
                                    const std::set<uint16_t>& avoid) {
  const absl::MutexLock lock(&impl_->mutex);
  return impl_->Reserve(project_id, ports, avoid, /*all=*/true);
}

absl::Status PortForwarder::ReserveWhatIsFree(const std::string& project_id,
                                              std::vector<ForwardedPort>& ports,
                                              const std::set<uint16_t>& avoid) {
  const absl::MutexLock lock(&impl_->mutex);
  return impl_->Reserve(project_id, ports, avoid, /*all=*/false);
}

absl::Status PortForwarder::Impl::Reserve(const std::string& project_id,
                                          std::vector<ForwardedPort>& ports,
                                          const std::set<uint16_t>& avoid, bool all) {
  std::vector<Held>& old = projects[project_id];
  std::vector<Held> taken;  // new ones
  absl::Status conflict;
  std::vector<ForwardedPort> kept;
  std::set<uint16_t> used = avoid;
  for (const ForwardedPort& port : ports) {
    used.insert(port.host_port);
  }
  for (ForwardedPort& wanted : ports) {
    const auto same = std::find_if(old.begin(), old.end(), [&](const Held& held) {
      return SamePort(held.port, wanted) &&
             (wanted.host_port == 0 ? IsOurs(held.port.host_port)
                                    : held.port.host_port == wanted.host_port);
    });
    if (same != old.end()) {
      wanted.host_port = same->port.host_port;
      kept.push_back(same->port);
      continue;
    }
    absl::StatusOr<Held> held = Take(project_id, wanted, used);
    if (!held.ok() && all) {
      CloseAll(taken);
      return held.status();
    }
    if (!held.ok()) {
      conflict.Update(held.status());
      continue;
    }
    wanted.host_port = held->port.host_port;
    used.insert(wanted.host_port);
    taken.push_back(std::move(*held));
  }
  const auto unwanted = std::stable_partition(old.begin(), old.end(), [&](const Held& held) {
    return std::any_of(kept.begin(), kept.end(), [&](const ForwardedPort& port) {
      return SamePort(port, held.port) && port.host_port == held.port.host_port;
    });
  });
  std::for_each(unwanted, old.end(), [](const Held& held) { held.listener->End(); });
  old.erase(unwanted, old.end());
  std::move(taken.begin(), taken.end(), std::back_inserter(old));
  if (conflict.ok()) {
    incomplete.erase(project_id);
  } else {
    incomplete.insert(project_id);
  }
  return conflict;
}

absl::Status PortForwarder::Check(const std::string& project_id,
                                  const std::vector<ForwardedPort>& ports) const {
  const absl::MutexLock lock(&impl_->mutex);
  const auto found = impl_->projects.find(project_id);
  const std::vector<Impl::Held> none;
  const std::vector<Impl::Held>& own = found == impl_->projects.end() ? none : found->second;
  for (const ForwardedPort& wanted : ports) {
    if (wanted.host_port == 0) {
      continue;
    }
    const auto holder = std::find_if(own.begin(), own.end(), [&](const Impl::Held& held) {
      return held.port.host_port == wanted.host_port && held.port.protocol == wanted.protocol;
    });
    if (holder != own.end()) {
      if (!SamePort(holder->port, wanted)) {
        return OwnConflict(holder->port);
      }
      continue;
    }
    PortSockets sockets;
    if (const int error = BindPort(wanted.host_port, wanted.protocol, sockets); error != 0) {
      return Conflict(wanted, wanted.host_port, error);
    }
  }
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
    spdlog::info("127.0.0.1:{}{} leads to port {} of {} of project {}", held.port.host_port,
                 Suffix(held.port.protocol), held.port.container_port, held.port.service,
                 project_id);
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
  impl_->incomplete.erase(project_id);
}

void PortForwarder::CloseAll() {
  const absl::MutexLock lock(&impl_->mutex);
  for (auto& [id, ports] : impl_->projects) {
    Impl::CloseAll(ports);
  }
  impl_->projects.clear();
  impl_->incomplete.clear();
}

bool PortForwarder::IsOpen(const std::string& project_id) const {
  const absl::MutexLock lock(&impl_->mutex);
  const auto found = impl_->projects.find(project_id);
  return found != impl_->projects.end() && impl_->incomplete.count(project_id) == 0 &&
         std::all_of(found->second.begin(), found->second.end(),
                     [](const Impl::Held& held) { return held.open; });
}

std::vector<PortTraffic> PortForwarder::Traffic(const std::string& project_id) const {
  const absl::MutexLock lock(&impl_->mutex);
  std::vector<PortTraffic> traffic;
  if (const auto found = impl_->projects.find(project_id); found != impl_->projects.end()) {
    for (const Impl::Held& held : found->second) {
      traffic.push_back({held.port, held.counters->connections, held.counters->open,
                         held.counters->traffic.from_a, held.counters->traffic.from_b});
    }
  }
  return traffic;
}

}  // namespace vibe::host
