// TLS over a socket, as a client. The peer's certificate must chain to the system's roots and carry
// the host's name or address. One thread at a time. Inside this folder only.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "http/byte_stream.h"

namespace vibe::http {

// Does the handshake over `socket`, which must outlive the result.
absl::StatusOr<std::unique_ptr<ByteStream>> StartTls(ByteStream* socket, const std::string& host);

}  // namespace vibe::http
