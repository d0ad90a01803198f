// One further process in a service's container, with its input and output in our hands. The fifos
// that containerd's shim copies from and to lie in a private folder that goes with the session.
//
// Put and Abandon may be called from any thread at any time; Run is called once. When Run returns,
// the process has ended, containerd has forgotten it and the fifos are gone.
#pragma once

#include <atomic>
#include <deque>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "containerd/client.h"
#include "supervisor/runtime_spec.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::supervisor {

struct ExecTarget {
  containerd::Client& containerd;
  std::string ns, container_id;
  std::filesystem::path directory;  // where the session makes its folder
};

class ExecSession {
 public:
  enum class Stream { kStdout, kStderr };
  // Takes output; an error means that nobody wants it any more.
  using OutputSink = std::function<absl::Status(Stream stream, absl::string_view bytes)>;

  ExecSession(ExecTarget target, v1::ExecRequest::Start start);
  ~ExecSession();

  // Hands on stdin, resize or signal. One at a time: the next when `on_input_taken` was called for
  // this one.
  void Put(v1::ExecRequest input);
  // The other side is gone: the process is killed.
  void Abandon();

  // Returns the exit code, 128+n after signal n. Cancelled when the session was abandoned;
  // InvalidArgument for a command that cannot be run.
  absl::StatusOr<uint32_t> Run(const OutputSink& output,
                               const std::function<void()>& on_input_taken);

 private:
  absl::Status Prepare();
  absl::StatusOr<std::optional<ResolvedUser>> User() const;  // nothing: the service's own
  absl::StatusOr<uint32_t> Pump(const OutputSink& output,
                                const std::function<void()>& on_input_taken);
  absl::Status Forward(int fd, Stream stream, const OutputSink& output);
  void TakeInput(const std::function<void()>& on_input_taken);
  void WriteInput(const std::function<void()>& on_input_taken);
  void CloseInput();
  void Wake();

  const ExecTarget target_;
  const v1::ExecRequest::Start start_;
  const std::string id_;
  const std::filesystem::path folder_;
  UniqueFd wake_;  // an eventfd
  UniqueFd stdout_, stderr_;
  UniqueFd stdin_;
  UniqueFd stdin_hold_;  // keeps what was written until the shim has opened its end
  std::string pending_;  // of stdin, not yet written
  std::atomic<bool> abandoned_ = false;
  std::atomic<bool> ended_ = false;  // the process is gone and all its output is in the fifos

  absl::Mutex mutex_;
  std::deque<v1::ExecRequest> inputs_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace vibe::supervisor
