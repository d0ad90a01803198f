// Addresses on which the supervisor takes connections from its host, as its command line has them:
//   unix:/run/vibe/supervisor.sock      private by the file's mode
//   vsock:1024                          from the host's own address only
//   tcp:1025                            with the machine's secret only
//   serial:vibe.rpc                     a virtio-serial port by its name: one connection at a time
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace vibe::supervisor {

struct Address {
  enum class Kind { kUnix, kVsock, kTcp, kSerial };
  Kind kind = Kind::kUnix;
  std::string path;  // of a socket; a serial port's name
  uint32_t port = 0;

  bool operator==(const Address&) const = default;
};

absl::StatusOr<Address> ParseAddress(absl::string_view text);  // pure

// A listening socket; a serial port has none (serial_port.h).
absl::StatusOr<UniqueFd> ListenOn(const Address& address);

}  // namespace vibe::supervisor
