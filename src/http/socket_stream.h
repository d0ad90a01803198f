// Connecting, and reading and writing a non-blocking socket with time limits. One thread at a time;
// the fd may be shut down from anywhere. Inside this folder only.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "http/byte_stream.h"

namespace vibe::http {

// A point in time that a change of the wall clock, or a machine that slept, does not move.
class Deadline {
 public:
  static Deadline After(absl::Duration duration);

  absl::Duration Left() const;  // zero when it has passed, infinite when there is none

 private:
  std::chrono::steady_clock::time_point at_ = std::chrono::steady_clock::time_point::max();
};

// A connected, non-blocking TCP socket. Tries every address of `host` until one answers.
absl::StatusOr<UniqueFd> ConnectTcp(const std::string& host, uint16_t port,
                                    const Deadline& deadline);

absl::Status SetBlocking(int fd, bool blocking);

class SocketStream : public ByteStream {
 public:
  SocketStream(UniqueFd fd, absl::Duration idle);  // takes a connected, non-blocking socket

  absl::StatusOr<size_t> ReadSome(char* buffer, size_t size) override;
  absl::StatusOr<size_t> WriteSome(const char* buffer, size_t size) override;

  void SetDeadline(const Deadline& deadline) { deadline_ = deadline; }
  int fd() const { return fd_.get(); }
  UniqueFd Release() { return std::move(fd_); }

 private:
  absl::Status Wait(short events) const;

  UniqueFd fd_;
  absl::Duration idle_;
  Deadline deadline_;
};

}  // namespace vibe::http
