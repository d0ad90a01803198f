// Sockets to the services' ports. Thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace vibe::supervisor {

// A socket of the type SOCK_STREAM or SOCK_DGRAM that does not block and is being connected to an
// address of either version. A stream is writable once ConnectResult says how that went; one for
// datagrams is connected, which says nothing about whether anybody listens.
absl::StatusOr<UniqueFd> ConnectToService(const std::string& address, uint16_t port, int type);

absl::Status ConnectResult(int fd);

}  // namespace vibe::supervisor
