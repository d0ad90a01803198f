#include "init/guest/uplink.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "init/guest/interface.h"
#include "init/log_pipe.h"

namespace vibe::init::guest {
namespace {

constexpr uint16_t kClientPort = 68;
constexpr uint16_t kServerPort = 67;
constexpr int kTries = 6;
constexpr absl::Duration kFirstWait = absl::Milliseconds(500);
constexpr absl::Duration kShortestRenewal = absl::Seconds(30);
constexpr uint32_t kForEver = 0xffffffff;

uint32_t Address(int a, int b, int c, int d) {
  return htonl(static_cast<uint32_t>(a << 24 | b << 16 | c << 8 | d));
}

// qemu's user network hands out the same addresses every time; no need to ask.
Lease SlirpLease() {
  return {.address = Address(10, 0, 2, 15),
          .netmask = Address(255, 255, 255, 0),
          .router = Address(10, 0, 2, 2),
          .nameservers = {Address(10, 0, 2, 3)},
          .server = 0,
          .seconds = kForEver};
}

absl::StatusOr<UniqueFd> DhcpSocket() {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(kClientPort);
  if (!fd.valid() || ::setsockopt(fd.get(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on) != 0 ||
      ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, kInterface, sizeof kInterface) != 0 ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any) != 0) {
    return ErrnoError(errno, "open a socket for DHCP");
  }
  return fd;
}

// Sends until an answer comes, waiting longer each time.
absl::StatusOr<DhcpReply> Exchange(const UniqueFd& socket, const DhcpRequest& request,
                                   uint32_t server) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(kServerPort);
  to.sin_addr.s_addr = server == 0 ? INADDR_BROADCAST : server;
  const std::string message = EncodeDhcp(request);
  absl::Duration wait = kFirstWait;
  for (int attempt = 0; attempt < kTries; ++attempt, wait *= 2) {
    if (::sendto(socket.get(), message.data(), message.size(), 0,
                 reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0) {
      return ErrnoError(errno, "send a DHCP request");
    }
    const absl::Time deadline = absl::Now() + wait;
    while (true) {
      const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
      pollfd poll{socket.get(), POLLIN, 0};
      if (left <= 0 || ::poll(&poll, 1, static_cast<int>(left)) <= 0) {
        break;
      }
      char packet[2048];
      const ssize_t count = ::recv(socket.get(), packet, sizeof packet, 0);
      if (count <= 0) {
        continue;
      }
      std::optional<DhcpReply> reply =
          DecodeDhcp(absl::string_view(packet, static_cast<size_t>(count)), request.transaction,
                     request.hardware);
      const bool asked_for_offer = request.type == DhcpType::kDiscover;
      if (reply && asked_for_offer == (reply->type == DhcpType::kOffer)) {
        return *std::move(reply);
      }
    }
  }
  return absl::DeadlineExceededError("no DHCP server answers");
}

absl::StatusOr<DhcpRequest> NewRequest(const Settings& settings) {
  DhcpRequest request;
  VIBE_ASSIGN_OR_RETURN(request.hardware, HardwareAddress(kInterface));
  request.hostname = settings.hostname;
  if (::getrandom(&request.transaction, sizeof request.transaction, 0) < 0) {
    request.transaction = static_cast<uint32_t>(absl::GetCurrentTimeNanos());
  }
  return request;
}

absl::StatusOr<Lease> Ask(const Settings& settings) {
  VIBE_ASSIGN_OR_RETURN(const UniqueFd socket, DhcpSocket());
  VIBE_ASSIGN_OR_RETURN(DhcpRequest request, NewRequest(settings));
  VIBE_ASSIGN_OR_RETURN(const DhcpReply offer, Exchange(socket, request, 0));
  request.type = DhcpType::kRequest;
  request.requested = offer.lease.address;
  request.server = offer.lease.server;
  VIBE_ASSIGN_OR_RETURN(DhcpReply answer, Exchange(socket, request, 0));
  if (answer.type != DhcpType::kAck) {
    return absl::UnavailableError("the DHCP server took its offer back");
  }
  return std::move(answer.lease);
}

absl::StatusOr<Lease> Renew(const Settings& settings, const Lease& lease) {
  VIBE_ASSIGN_OR_RETURN(const UniqueFd socket, DhcpSocket());
  VIBE_ASSIGN_OR_RETURN(DhcpRequest request, NewRequest(settings));
  request.type = DhcpType::kRequest;
  request.current = lease.address;
  VIBE_ASSIGN_OR_RETURN(DhcpReply answer, Exchange(socket, request, lease.server));
  if (answer.type != DhcpType::kAck) {
    return absl::UnavailableError("the DHCP server does not renew the lease");
  }
  return std::move(answer.lease);
}

absl::Status Apply(const Lease& lease) {
  VIBE_RETURN_IF_ERROR(SetAddress(kInterface, lease.address, lease.netmask));
  if (lease.router != 0) {
    VIBE_RETURN_IF_ERROR(SetDefaultRoute(kInterface, lease.router));
  }
  std::string resolv;
  for (const uint32_t nameserver : lease.nameservers) {
    absl::StrAppend(&resolv, "nameserver ", AddressText(nameserver), "\n");
  }
  VIBE_RETURN_IF_ERROR(ReplaceFile(kResolvConf, resolv));
  return ReplaceFile(kLeaseFile, LeaseText(lease));
}

absl::StatusOr<uint32_t> ParseAddress(absl::string_view text) {
  in_addr address{};
  if (::inet_pton(AF_INET, std::string(text).c_str(), &address) != 1) {
    return absl::InvalidArgumentError(absl::StrCat("not an address: ", text));
  }
  return address.s_addr;
}

}  // namespace

absl::Status SetUpUplink(const Settings& settings) {
  if (settings.uplink == Uplink::kNone) {
    return absl::OkStatus();
  }
  VIBE_RETURN_IF_ERROR(BringUp(kInterface));
  Lease lease = SlirpLease();
  if (settings.uplink == Uplink::kDhcp) {
    VIBE_ASSIGN_OR_RETURN(lease, Ask(settings));
  }
  return Apply(lease);
}

void KeepLease(const Settings& settings) {
  absl::StatusOr<Lease> lease = ReadLease();
  while (lease.ok() && lease->seconds != kForEver) {
    absl::SleepFor(std::max(absl::Seconds(lease->seconds) / 2, kShortestRenewal));
    absl::StatusOr<Lease> next = Renew(settings, *lease);
    if (!next.ok()) {
      Say(absl::StrCat("uplink: ", next.status().message(), "; asking for a new lease"));
      next = Ask(settings);
    }
    if (next.ok()) {
      lease = std::move(next);
      if (absl::Status status = Apply(*lease); !status.ok()) {
        Say(absl::StrCat("uplink: ", status.message()));
      }
    } else {
      Say(absl::StrCat("uplink: ", next.status().message(), "; the old lease stays"));
    }
  }
}

std::string LeaseText(const Lease& lease) {
  std::string text =
      absl::StrCat("address ", AddressText(lease.address), "\nnetmask ", AddressText(lease.netmask),
                   "\nrouter ", AddressText(lease.router), "\nserver ", AddressText(lease.server),
                   "\nseconds ", lease.seconds, "\n");
  for (const uint32_t nameserver : lease.nameservers) {
    absl::StrAppend(&text, "nameserver ", AddressText(nameserver), "\n");
  }
  return text;
}

absl::StatusOr<Lease> ParseLease(absl::string_view text) {
  Lease lease;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> words = absl::StrSplit(line, ' ');
    if (words.first == "seconds") {
      if (!absl::SimpleAtoi(words.second, &lease.seconds)) {
        return absl::InvalidArgumentError(absl::StrCat("not a lease's time: ", words.second));
      }
      continue;
    }
    VIBE_ASSIGN_OR_RETURN(const uint32_t address, ParseAddress(words.second));
    if (words.first == "nameserver") {
      lease.nameservers.push_back(address);
    } else if (words.first == "address") {
      lease.address = address;
    } else if (words.first == "netmask") {
      lease.netmask = address;
    } else if (words.first == "router") {
      lease.router = address;
    } else if (words.first == "server") {
      lease.server = address;
    }
  }
  return lease;
}

absl::StatusOr<Lease> ReadLease() {
  VIBE_ASSIGN_OR_RETURN(const std::string text, ReadFile(kLeaseFile, 4096));
  return ParseLease(text);
}

}  // namespace vibe::init::guest
