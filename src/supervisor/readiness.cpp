#include "supervisor/readiness.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/shell.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "supervisor/listeners.h"

namespace vibe::supervisor {
namespace {

// A service without ports or healthcheck has started when it did not fall over at once.
constexpr absl::Duration kSettleTime = absl::Milliseconds(300);
// Tries come close together at first: most services are there within milliseconds.
constexpr absl::Duration kFirstPause = absl::Milliseconds(5);
// A connection attempt costs nothing; running a check takes time from the service that gets ready.
constexpr absl::Duration kLongestPortPause = absl::Milliseconds(20);
constexpr absl::Duration kLongestCheckPause = absl::Milliseconds(200);
// After that a user wonders what is waited for.
constexpr absl::Duration kSilence = absl::Seconds(1);
// How long a service's healthcheck waits for a first sign from its ports.
constexpr absl::Duration kPortHint = absl::Seconds(2);
// How often to look where a service listens that does not answer.
constexpr absl::Duration kListenerPause = absl::Seconds(1);
// Of a table of the kernel's. Listeners stand before the connections, which may be many.
constexpr size_t kMaxTable = size_t{256} << 10;

bool Connects(const sockaddr* address, socklen_t length) {
  const UniqueFd fd(::socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), address, length) == 0) {
    return true;
  }
  if (errno != EINPROGRESS) {
    return false;
  }
  pollfd waiting{fd.get(), POLLOUT, 0};
  int error = 0;
  socklen_t size = sizeof error;
  return ::poll(&waiting, 1, 100) == 1 &&
         ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

// A program may listen on one family only.
bool PortAnswers(const PlannedService& service, uint16_t port) {
  sockaddr_in ipv4{};
  ipv4.sin_family = AF_INET;
  ipv4.sin_port = htons(port);
  if (::inet_pton(AF_INET, service.ipv4.c_str(), &ipv4.sin_addr) == 1 &&
      Connects(reinterpret_cast<const sockaddr*>(&ipv4), sizeof ipv4)) {
    return true;
  }
  sockaddr_in6 ipv6{};
  ipv6.sin6_family = AF_INET6;
  ipv6.sin6_port = htons(port);
  return ::inet_pton(AF_INET6, service.ipv6.c_str(), &ipv6.sin6_addr) == 1 &&
         Connects(reinterpret_cast<const sockaddr*>(&ipv6), sizeof ipv6);
}

// The beginning of a file of /proc, which has no size; empty when it is gone.
std::string ReadTable(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(kMaxTable, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(fd.get(), text.data() + size, text.size() - size);
    if (got <= 0) {
      break;
    }
    size += static_cast<size_t>(got);
  }
  text.resize(size);
  return text;
}

// Why the port does not answer, as far as can be seen.
std::string PortTrouble(ServiceContainer& container, uint16_t port) {
  if (const auto pid = container.Pid(); pid.ok() && *pid != 0) {
    const std::string tables = absl::StrCat("/proc/", *pid, "/net/");
    if (const auto address = LoopbackListener(ReadTable(absl::StrCat(tables, "tcp")),
                                              ReadTable(absl::StrCat(tables, "tcp6")), port)) {
      return absl::StrCat("port ", port, " answers inside the service only: it listens on ",
                          *address);
    }
  }
  return absl::StrCat("port ", port, " does not answer");
}

// Tries until `ready` says so, with growing pauses.
absl::Status Poll(absl::Duration timeout, absl::Duration longest_pause, const MissingSink& missing,
                  const std::function<absl::Status()>& keep_waiting,
                  const std::function<absl::Status()>& ready) {
  const absl::Time begun = absl::Now();
  const absl::Time deadline = begun + timeout;
  absl::Duration pause = kFirstPause;
  std::string told;
  while (true) {
    VIBE_RETURN_IF_ERROR(keep_waiting());
    const absl::Status status = ready();
    if (status.ok()) {
      return status;
    }
    if (absl::Now() - begun >= kSilence && status.message() != told) {
      told = std::string(status.message());
      missing(told);
    }
    if (absl::Now() >= deadline) {
      VIBE_RETURN_IF_ERROR(keep_waiting());
      return absl::DeadlineExceededError(absl::StrCat(
          "it did not get ready within ", absl::FormatDuration(timeout), ": ", status.message()));
    }
    absl::SleepFor(pause);
    pause = std::min(pause * 3 / 2, longest_pause);
  }
}

std::vector<std::string> CheckCommand(const manifest::Healthcheck& check) {
  if (check.test.size() < 2 || check.test[0] == "NONE") {
    return {};
  }
  if (check.test[0] == "CMD-SHELL") {
    return {"/bin/sh", "-c", check.test[1]};
  }
  return {check.test.begin() + 1, check.test.end()};
}

// A check runs a program, which costs a starting service far more time than a connection attempt:
// while no port answers there is hardly a point in it.
absl::Status AwaitAnyPort(const PlannedService& service, const MissingSink& missing,
                          const std::function<absl::Status()>& keep_waiting) {
  const bool has_port =
      std::any_of(service.ports.begin(), service.ports.end(),
                  [](const auto& port) { return port.protocol == manifest::Protocol::kTcp; });
  const absl::Status status =
      !has_port ? absl::OkStatus() : Poll(kPortHint, kLongestPortPause, missing, keep_waiting, [&] {
        return std::any_of(service.ports.begin(), service.ports.end(),
                           [&](const auto& port) { return PortAnswers(service, port.container); })
                   ? absl::OkStatus()
                   : absl::UnavailableError("no port answers");
      });
  return absl::IsDeadlineExceeded(status) ? absl::OkStatus() : status;
}

absl::Status AwaitPort(const PlannedService& service, uint16_t port, ServiceContainer& container,
                       const MissingSink& missing,
                       const std::function<absl::Status()>& keep_waiting) {
  absl::Time look = absl::Now() + kSilence;
  std::string trouble = absl::StrCat("port ", port, " does not answer");
  absl::Status status = Poll(kReadyTimeout, kLongestPortPause, missing, keep_waiting, [&] {
    if (PortAnswers(service, port)) {
      return absl::OkStatus();
    }
    if (absl::Now() >= look) {
      trouble = PortTrouble(container, port);
      look = absl::Now() + kListenerPause;
    }
    return absl::UnavailableError(trouble);
  });
  return !absl::IsDeadlineExceeded(status)
             ? status
             : WithAdvice(std::move(status),
                          absl::StrCat("let it listen on port ", port,
                                       " of all its addresses (0.0.0.0), not of 127.0.0.1 only, or "
                                       "correct `ports` in the app's manifest"));
}

absl::Status AwaitHealthy(absl::string_view project, const PlannedService& service,
                          const manifest::Healthcheck& check,
                          const std::vector<std::string>& command, ServiceContainer& container,
                          const MissingSink& missing,
                          const std::function<absl::Status()>& keep_waiting) {
  VIBE_RETURN_IF_ERROR(AwaitAnyPort(service, missing, keep_waiting));
  // The manifest's budget counts from the end of the start period, but tries do not wait for its
  // interval: a service that is ready early should not be waited for.
  const absl::Duration budget =
      absl::Milliseconds(check.start_period_ms) +
      check.retries * absl::Milliseconds(check.interval_ms + check.timeout_ms);
  absl::Status status =
      Poll(std::min(budget, kReadyTimeout), kLongestCheckPause, missing, keep_waiting,
           [&]() -> absl::Status {
             VIBE_ASSIGN_OR_RETURN(const uint32_t exit_code,
                                   container.Exec(command, absl::Milliseconds(check.timeout_ms)));
             return exit_code == 0 ? absl::OkStatus()
                                   : absl::UnavailableError(absl::StrCat(
                                         "its healthcheck \"", absl::StrJoin(command, " "),
                                         "\" exits with ", exit_code));
           });
  if (!absl::IsDeadlineExceeded(status)) {
    return status;
  }
  const std::string words = absl::StrJoin(
      command, " ",
      [](std::string* out, const std::string& word) { absl::StrAppend(out, ShellQuoted(word)); });
  return WithAdvice(
      std::move(status),
      absl::StrCat("try it while the service starts: `vibe exec --service=", service.name, " ",
                   project, " -- ", words,
                   "`; `startPeriod` and `retries` of its healthcheck give it longer"));
}

}  // namespace

absl::Status AwaitReady(absl::string_view project, const PlannedService& service,
                        ServiceContainer& container, const MissingSink& missing,
                        const std::function<absl::Status()>& keep_waiting) {
  if (service.healthcheck) {
    if (const auto command = CheckCommand(*service.healthcheck); !command.empty()) {
      return AwaitHealthy(project, service, *service.healthcheck, command, container, missing,
                          keep_waiting);
    }
  }
  bool has_tcp_port = false;
  for (const manifest::Port& port : service.ports) {
    if (port.protocol != manifest::Protocol::kTcp) {
      continue;
    }
    has_tcp_port = true;
    VIBE_RETURN_IF_ERROR(AwaitPort(service, port.container, container, missing, keep_waiting));
  }
  if (has_tcp_port) {
    return absl::OkStatus();
  }
  const absl::Time settled = absl::Now() + kSettleTime;
  return Poll(kReadyTimeout, kLongestPortPause, missing, keep_waiting, [&] {
    return absl::Now() >= settled ? absl::OkStatus()
                                  : absl::UnavailableError("it has just started");
  });
}

}  // namespace vibe::supervisor
