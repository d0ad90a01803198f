#include "cli/exec_stream.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/error_text.h"
#include "cli/json_fields.h"

namespace vibe::cli {
namespace {

using host::ClientFrame;
using host::ServerFrame;

constexpr size_t kChunk = 32 << 10;
constexpr size_t kMaxQueued = 256 << 10;  // more input is not read before this has gone

#ifdef MSG_NOSIGNAL
constexpr int kSendFlags = MSG_NOSIGNAL;
#else
constexpr int kSendFlags = 0;  // the program ignores SIGPIPE
#endif

void SetNonBlocking(int fd) {
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

absl::Status BrokenError() {
  return WithAdvice(
      absl::UnavailableError("the connection to vibed broke before the command had ended"),
      "see with `vibe ps` whether the project still runs");
}

// The machine is a Linux, whose numbers differ from other systems'.
int LinuxSignal(int number) {
  switch (number) {
    case SIGHUP:
      return 1;
    case SIGINT:
      return 2;
    case SIGQUIT:
      return 3;
    case SIGTERM:
      return 15;
    default:
      return 0;
  }
}

std::string EncodeSize(const ScreenSize& size) {
  std::string payload;
  for (const int value : {size.width, size.height}) {
    payload += static_cast<char>(value >> 8 & 0xff);
    payload += static_cast<char>(value & 0xff);
  }
  return payload;
}

uint32_t DecodeU32(absl::string_view payload) {
  uint32_t value = 0;
  for (const char byte : payload) {
    value = value << 8 | static_cast<uint8_t>(byte);
  }
  return value;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExecStream>> ExecStream::Make(http::UpgradedStream stream) {
  int fds[2];
  if (::pipe(fds) != 0) {
    return ErrnoError(errno, "cannot make a pipe");
  }
  UniqueFd wake(fds[0]);
  UniqueFd waker(fds[1]);
  for (const int fd : {wake.get(), waker.get(), stream.fd.get()}) {
    SetNonBlocking(fd);
  }
  return std::unique_ptr<ExecStream>(
      new ExecStream(std::move(stream), std::move(wake), std::move(waker)));
}

ExecStream::ExecStream(http::UpgradedStream stream, UniqueFd wake, UniqueFd waker)
    : connection_(std::move(stream.fd)), wake_(std::move(wake)), waker_(std::move(waker)) {
  decoder_.Append(stream.read_ahead);
}

absl::StatusOr<int> ExecStream::Run(int input, const Sink& sink) {
  if (input < 0) {
    Queue(ClientFrame::kCloseStdin, "");
  }
  int exit_code = 0;
  while (true) {
    VIBE_ASSIGN_OR_RETURN(const bool ended, TakeFrames(sink, exit_code));
    if (ended) {
      return exit_code;
    }
    if (closed_) {
      return BrokenError();
    }
    size_t queued = 0;
    {
      absl::MutexLock lock(&mutex_);
      if (given_up_) {
        return InterruptedError("interrupted");
      }
      queued = queue_.size();
    }
    const bool reads_input = input >= 0 && queued < kMaxQueued;
    std::array<pollfd, 3> waits = {{
        {connection_.get(), static_cast<short>(queued > 0 ? POLLIN | POLLOUT : POLLIN), 0},
        {wake_.get(), POLLIN, 0},
        {reads_input ? input : -1, POLLIN, 0},
    }};
    if (::poll(waits.data(), waits.size(), -1) < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoError(errno, "cannot wait for the command");
    }
    if (waits[1].revents != 0) {
      DrainWakes();
    }
    if (reads_input && waits[2].revents != 0) {
      VIBE_RETURN_IF_ERROR(ReadInput(input));
    }
    if (waits[0].revents != 0) {
      VIBE_RETURN_IF_ERROR(Receive());
    }
    VIBE_RETURN_IF_ERROR(SendQueued());
  }
}

void ExecStream::SendSignal(int number) {
  if (const int sent = LinuxSignal(number); sent != 0) {
    Queue(ClientFrame::kSignal, std::string(1, static_cast<char>(sent)));
    Wake();
  }
}

void ExecStream::SendSize(const ScreenSize& size) {
  Queue(ClientFrame::kResize, EncodeSize(size));
  Wake();
}

void ExecStream::GiveUp() {
  {
    absl::MutexLock lock(&mutex_);
    given_up_ = true;
  }
  Wake();
}

void ExecStream::Queue(ClientFrame type, absl::string_view payload) {
  absl::MutexLock lock(&mutex_);
  queue_ += host::EncodeFrame(static_cast<uint8_t>(type), payload);
}

void ExecStream::Wake() {
  // A full pipe wakes as well as one more byte would.
  (void)!::write(waker_.get(), "!", 1);
}

void ExecStream::DrainWakes() {
  std::array<char, 64> bytes;
  while (::read(wake_.get(), bytes.data(), bytes.size()) > 0) {
  }
}

absl::Status ExecStream::ReadInput(int& input) {
  std::array<char, kChunk> bytes;
  const ssize_t count = ::read(input, bytes.data(), bytes.size());
  if (count > 0) {
    Queue(ClientFrame::kStdin, absl::string_view(bytes.data(), static_cast<size_t>(count)));
    return absl::OkStatus();
  }
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) {
    return absl::OkStatus();
  }
  // EIO: the terminal is gone, or belongs to another job.
  if (count < 0 && errno != EIO) {
    return ErrnoError(errno, "cannot read standard input");
  }
  Queue(ClientFrame::kCloseStdin, "");
  input = -1;
  return absl::OkStatus();
}

absl::Status ExecStream::SendQueued() {
  absl::MutexLock lock(&mutex_);
  while (!queue_.empty()) {
    const ssize_t count = ::send(connection_.get(), queue_.data(), queue_.size(), kSendFlags);
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      if (errno == EPIPE || errno == ECONNRESET) {
        queue_.clear();  // the command has ended; its exit code may still be on its way to us
      }
      return errno == EAGAIN || errno == EWOULDBLOCK || queue_.empty()
                 ? absl::OkStatus()
                 : ErrnoError(errno, "cannot send to vibed");
    }
    queue_.erase(0, static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status ExecStream::Receive() {
  std::array<char, kChunk> bytes;
  const ssize_t count = ::recv(connection_.get(), bytes.data(), bytes.size(), 0);
  if (count > 0) {
    decoder_.Append(absl::string_view(bytes.data(), static_cast<size_t>(count)));
  } else if (count == 0 || errno == ECONNRESET) {
    closed_ = true;
  } else if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) {
    return ErrnoError(errno, "cannot read from vibed");
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> ExecStream::TakeFrames(const Sink& sink, int& exit_code) {
  host::Frame frame;
  while (true) {
    const absl::StatusOr<bool> whole = decoder_.Next(frame);
    if (!whole.ok()) {
      return absl::DataLossError(absl::StrCat("vibed sent ", whole.status().message()));
    }
    if (!*whole) {
      return false;
    }
    VIBE_ASSIGN_OR_RETURN(const bool ended, TakeFrame(frame, sink, exit_code));
    if (ended) {
      return true;
    }
  }
}

// True after the last frame.
absl::StatusOr<bool> ExecStream::TakeFrame(const host::Frame& frame, const Sink& sink,
                                           int& exit_code) {
  switch (static_cast<ServerFrame>(frame.type)) {
    case ServerFrame::kStdout:
      VIBE_RETURN_IF_ERROR(sink(Source::kStdout, frame.payload));
      return false;
    case ServerFrame::kStderr:
      VIBE_RETURN_IF_ERROR(sink(Source::kStderr, frame.payload));
      return false;
    case ServerFrame::kExitCode:
      if (frame.payload.size() != 4) {
        return absl::DataLossError("vibed sent an exit code that is none");
      }
      exit_code = static_cast<int>(DecodeU32(frame.payload) & 0xff);
      return true;
    case ServerFrame::kError:
      return ErrorFromJson(Json::parse(frame.payload, nullptr, false));
  }
  return false;  // of a newer vibed
}

}  // namespace vibe::cli
