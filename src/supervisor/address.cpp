#include "supervisor/address.h"

// The kernel's header wants this one first.
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "base/unix_socket.h"

namespace vibe::supervisor {
namespace {

constexpr int kQueue = 128;
constexpr uint32_t kMaxTcpPort = 65535;

absl::StatusOr<UniqueFd> Listen(int family, const sockaddr* address, socklen_t size,
                                const std::string& name) {
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  if (!fd.valid() || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(fd.get(), address, size) != 0 || ::listen(fd.get(), kQueue) != 0) {
    return ErrnoError(errno, absl::StrCat("listen on ", name));
  }
  return fd;
}

}  // namespace

absl::StatusOr<Address> ParseAddress(absl::string_view text) {
  absl::string_view rest = text;
  Address address;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    address.path = std::string(rest);
    if (absl::StartsWith(rest, "/")) {
      return address;
    }
  } else if (absl::ConsumePrefix(&rest, "serial:")) {
    address.kind = Address::Kind::kSerial;
    address.path = std::string(rest);
    if (!rest.empty() && !absl::StrContains(rest, '/')) {
      return address;
    }
  } else if (absl::ConsumePrefix(&rest, "vsock:") || absl::ConsumePrefix(&rest, "tcp:")) {
    address.kind = absl::StartsWith(text, "tcp:") ? Address::Kind::kTcp : Address::Kind::kVsock;
    if (absl::SimpleAtoi(rest, &address.port) && address.port > 0 &&
        (address.kind == Address::Kind::kVsock || address.port <= kMaxTcpPort)) {
      return address;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("an address is unix:PATH with an absolute path, vsock:PORT, tcp:PORT or "
                   "serial:NAME, not ",
                   text));
}

absl::StatusOr<UniqueFd> ListenOn(const Address& address) {
  switch (address.kind) {
    case Address::Kind::kUnix:
      return ListenUnix(address.path);
    case Address::Kind::kVsock: {
      sockaddr_vm vsock{};
      vsock.svm_family = AF_VSOCK;
      vsock.svm_cid = VMADDR_CID_ANY;
      vsock.svm_port = address.port;
      return Listen(AF_VSOCK, reinterpret_cast<const sockaddr*>(&vsock), sizeof vsock,
                    absl::StrCat("vsock port ", address.port));
    }
    case Address::Kind::kTcp: {
      sockaddr_in tcp{};
      tcp.sin_family = AF_INET;
      tcp.sin_port = htons(static_cast<uint16_t>(address.port));
      tcp.sin_addr.s_addr = htonl(INADDR_ANY);
      return Listen(AF_INET, reinterpret_cast<const sockaddr*>(&tcp), sizeof tcp,
                    absl::StrCat("port ", address.port));
    }
    case Address::Kind::kSerial:
      break;
  }
  return absl::InvalidArgumentError("a serial port has no queue of connections");
}

}  // namespace vibe::supervisor
