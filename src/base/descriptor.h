// A descriptor that goes along with bytes over a unix socket (SCM_RIGHTS), as sendmsg(2) and
// recvmsg(2) have it. Thread-safe.
#pragma once

#include <sys/types.h>

#include <cstddef>

#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace vibe {

// As send(2) without waiting; `fd` goes along with the first byte, and the caller keeps it.
ssize_t SendWithDescriptor(int socket, absl::string_view bytes, int fd);

// As recv(2) without waiting. `fd` gets the descriptor that came along, if one did; any more are
// closed.
ssize_t ReceiveWithDescriptor(int socket, char* buffer, size_t size, UniqueFd& fd);

}  // namespace vibe
