// A connected stream of bytes under the HTTP client: a socket, or TLS over one. Every wait is
// bounded. One thread at a time. Inside this folder only.
#pragma once

#include <cstddef>

#include "absl/status/statusor.h"

namespace vibe::http {

class ByteStream {
 public:
  virtual ~ByteStream() = default;

  // Reads at least one byte; 0 means the end of the stream.
  virtual absl::StatusOr<size_t> ReadSome(char* buffer, size_t size) = 0;

  // Writes at least one byte. `size` > 0.
  virtual absl::StatusOr<size_t> WriteSome(const char* buffer, size_t size) = 0;
};

}  // namespace vibe::http
