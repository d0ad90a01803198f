#include "vm/qemu/dial.h"

#include <sys/socket.h>

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status.h"
#include "rpc/ports.h"
#include "vm/qemu/stream.h"

namespace vibe::vm::qemu {
namespace {

constexpr size_t kMaxAnswerBytes = 64;
constexpr size_t kNonceBytes = 16;
// What the guest had sent to a host that went away before it heard.
constexpr size_t kMaxStaleBytes = 16 << 20;

absl::StatusOr<UniqueFd> WithSecret(absl::StatusOr<UniqueFd> stream, const Boot& boot,
                                    absl::Time deadline) {
  if (stream.ok()) {
    VIBE_RETURN_IF_ERROR(WriteBy(*stream, absl::StrCat(boot.secret, "\n"), deadline));
  }
  return stream;
}

// A serial port has no connections of its own: the guest learns that a host is there from
// "VIBE <secret> <nonce>" (supervisor/serial_greeting.h) and begins anew with "OK <nonce>". What it
// sent to the host before is skipped.
absl::StatusOr<UniqueFd> ThroughSerial(const Layout& layout, const Boot& boot,
                                       absl::Time deadline) {
  VIBE_ASSIGN_OR_RETURN(UniqueFd stream, ConnectUnixBy(layout.port(), deadline));
  const std::string nonce = RandomHex(kNonceBytes);
  VIBE_RETURN_IF_ERROR(
      WriteBy(stream, absl::StrCat("\nVIBE ", boot.secret, " ", nonce, "\n"), deadline));
  const std::string answer = absl::StrCat("OK ", nonce, "\n");
  std::string tail;
  for (size_t skipped = 0; skipped < kMaxStaleBytes;) {
    VIBE_RETURN_IF_ERROR(AwaitReadable(stream, deadline));
    // Never more than what is missing of the answer: what follows it belongs to the stream.
    std::string bytes(answer.size() - tail.size(), '\0');
    const ssize_t count = ::recv(stream.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count == 0) {
      return absl::UnavailableError("the machine closed its serial port");
    }
    if (count < 0) {
      continue;
    }
    skipped += static_cast<size_t>(count);
    tail.append(bytes, 0, static_cast<size_t>(count));
    if (tail == answer) {
      return stream;
    }
    // The longest end of it that may be the answer's beginning.
    while (!absl::StartsWith(answer, tail)) {
      tail.erase(0, 1);
    }
  }
  return absl::InternalError("the machine's serial port does not become quiet");
}

}  // namespace

UniqueFd Dialer::TakeUnanswered(uint32_t port) {
  const absl::MutexLock lock(&mutex_);
  std::vector<UniqueFd>& waiting = unanswered_[port];
  UniqueFd stream;
  if (!waiting.empty()) {
    stream = std::move(waiting.back());
    waiting.pop_back();
  }
  return stream;
}

absl::StatusOr<UniqueFd> Dialer::AwaitAccepted(UniqueFd stream, uint32_t port,
                                               absl::Time deadline) {
  const absl::StatusOr<std::string> answer = ReadLineBy(stream, kMaxAnswerBytes, deadline);
  if (absl::IsDeadlineExceeded(answer.status())) {
    const absl::MutexLock lock(&mutex_);
    unanswered_[port].push_back(std::move(stream));
  }
  VIBE_RETURN_IF_ERROR(answer.status());
  if (!absl::StartsWith(*answer, "OK ")) {
    return absl::InternalError("the vsock device's answer makes no sense");
  }
  return stream;
}

// The device speaks for the guest: "CONNECT <port>", answered by "OK <a port of its own>" when the
// guest has accepted, or by the end of the stream.
absl::StatusOr<UniqueFd> Dialer::ThroughDevice(const Layout& layout, uint32_t port,
                                               absl::Time deadline) {
  // One whose device or guest has ended meanwhile says so at once.
  for (UniqueFd left = TakeUnanswered(port); left.valid(); left = TakeUnanswered(port)) {
    absl::StatusOr<UniqueFd> stream = AwaitAccepted(std::move(left), port, deadline);
    if (!absl::IsUnavailable(stream.status())) {
      return stream;
    }
  }
  VIBE_ASSIGN_OR_RETURN(UniqueFd stream, ConnectUnixBy(layout.vsock(), deadline));
  VIBE_RETURN_IF_ERROR(WriteBy(stream, absl::StrCat("CONNECT ", port, "\n"), deadline));
  return AwaitAccepted(std::move(stream), port, deadline);
}

absl::StatusOr<UniqueFd> Dialer::Dial(const Layout& layout, const Boot& boot, uint32_t port,
                                      absl::Time deadline) {
  if (port != rpc::kSupervisorPort && port != rpc::kForwardPort) {
    return absl::InvalidArgumentError(absl::StrCat("the machine has no port ", port));
  }
  switch (boot.transport) {
    case Transport::kVhost:
      return WithSecret(ConnectVsockBy(boot.cid, port, deadline), boot, deadline);
    case Transport::kDevice:
      return ThroughDevice(layout, port, deadline);
    case Transport::kSerial:
      return port == rpc::kSupervisorPort
                 ? ThroughSerial(layout, boot, deadline)
                 : WithSecret(ConnectLoopbackBy(boot.forward_port, deadline), boot, deadline);
  }
  return absl::InternalError("no transport");
}

}  // namespace vibe::vm::qemu
