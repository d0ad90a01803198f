// Byte streams to processes that may have stopped: everything here ends at its deadline, whatever
// the peer does. Thread-safe for different descriptors.
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace vibe::vm::qemu {

// A socket in blocking mode. Unavailable when nobody listens; DeadlineExceeded when whoever does
// takes no connections.
absl::StatusOr<UniqueFd> ConnectUnixBy(const std::filesystem::path& path, absl::Time deadline);
absl::StatusOr<UniqueFd> ConnectLoopbackBy(uint16_t port, absl::Time deadline);
absl::StatusOr<UniqueFd> ConnectVsockBy(uint32_t cid, uint32_t port, absl::Time deadline);

absl::Status WriteBy(const UniqueFd& fd, absl::string_view bytes, absl::Time deadline);

// The same; the peer, on a unix socket, gets a duplicate of `attached` with the first byte.
absl::Status WriteWithDescriptorBy(const UniqueFd& fd, absl::string_view bytes,
                                   const UniqueFd& attached, absl::Time deadline);

// Up to the next newline, which is taken and not returned; not one byte more. Unavailable at the
// end of the stream, ResourceExhausted for a line over `limit` bytes.
absl::StatusOr<std::string> ReadLineBy(const UniqueFd& fd, size_t limit, absl::Time deadline);

// Returns when there is something to read, or the stream's end.
absl::Status AwaitReadable(const UniqueFd& fd, absl::Time deadline);

}  // namespace vibe::vm::qemu
