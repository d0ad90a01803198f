// The client's side of the protocol vibe-exec (host/exec_frame.h): bytes between three streams and
// the frames of a connection. Blocking, on one thread; SendSignal and SendSize from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "cli/progress.h"
#include "host/exec_frame.h"
#include "http/client.h"

namespace vibe::cli {

class ExecStream {
 public:
  enum class Source { kStdout, kStderr };
  // Takes what the command wrote. An error ends the transfer.
  using Sink = std::function<absl::Status(Source source, absl::string_view bytes)>;

  // `stream` is vibed's connection after 101. Unavailable when the system has no more descriptors.
  static absl::StatusOr<std::unique_ptr<ExecStream>> Make(http::UpgradedStream stream);

  // Until the command ends: what `input` gives goes to it, what it writes to `sink`. Its exit code,
  // or an error of vibed's; Unavailable when the connection broke; InterruptedError after GiveUp.
  // With `input` -1 the command gets an end of file at once. `input` is not closed.
  absl::StatusOr<int> Run(int input, const Sink& sink);

  void SendSignal(int number);  // what has no number on the other side is not sent
  void SendSize(const ScreenSize& size);
  void GiveUp();

 private:
  ExecStream(http::UpgradedStream stream, UniqueFd wake, UniqueFd waker);

  void Queue(host::ClientFrame type, absl::string_view payload);
  void Wake();
  void DrainWakes();
  absl::Status ReadInput(int& input);
  absl::Status SendQueued();
  absl::Status Receive();
  absl::StatusOr<bool> TakeFrames(const Sink& sink, int& exit_code);
  absl::StatusOr<bool> TakeFrame(const host::Frame& frame, const Sink& sink, int& exit_code);

  const UniqueFd connection_;
  const UniqueFd wake_;
  const UniqueFd waker_;
  host::FrameDecoder decoder_;  // of the thread that runs
  bool closed_ = false;         // the connection was, by the other side
  absl::Mutex mutex_;
  std::string queue_ ABSL_GUARDED_BY(mutex_);  // frames to send
  bool given_up_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace vibe::cli
