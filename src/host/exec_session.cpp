#include "host/exec_session.h"

#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/status.h"

namespace vibe::host {
namespace {

absl::StatusOr<v1::ExecRequest> ToRequest(Frame frame) {
  v1::ExecRequest request;
  switch (static_cast<ClientFrame>(frame.type)) {
    case ClientFrame::kStdin:
      request.set_stdin(std::move(frame.payload));
      return request;
    case ClientFrame::kCloseStdin:
      request.set_close_stdin(true);
      return request;
    case ClientFrame::kResize: {
      VIBE_ASSIGN_OR_RETURN(const FrameSize size, DecodeResize(frame.payload));
      request.mutable_resize()->set_columns(size.columns);
      request.mutable_resize()->set_rows(size.rows);
      return request;
    }
    case ClientFrame::kSignal: {
      VIBE_ASSIGN_OR_RETURN(const uint8_t signal, DecodeSignal(frame.payload));
      request.set_signal(signal);
      return request;
    }
  }
  return absl::InvalidArgumentError("a frame has an unknown type");
}

// Why the client's side ended the command; ok while it did not.
class ClientFault {
 public:
  void Set(const absl::Status& status) {
    const absl::MutexLock lock(&mutex_);
    status_ = status;
  }
  absl::Status Get() const {
    const absl::MutexLock lock(&mutex_);
    return status_;
  }

 private:
  mutable absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

// Until the command's stream is over. Its end goes to the client as the last frame.
void SendOutput(FrameStream& frames, SupervisorClient::Exec& exec, const ClientFault& fault) {
  std::optional<uint32_t> exit_code;
  v1::ExecResponse response;
  while (exec.Receive(response)) {
    absl::Status sent;
    if (response.has_stdout()) {
      sent = frames.Write(ServerFrame::kStdout, response.stdout());
    } else if (response.has_stderr()) {
      sent = frames.Write(ServerFrame::kStderr, response.stderr());
    } else if (response.has_exit_code()) {
      exit_code = response.exit_code();
    }
    if (!sent.ok()) {
      exec.Cancel();
    }
  }
  absl::Status end = exec.Finish();
  if (exit_code) {
    frames.Write(ServerFrame::kExitCode, EncodeU32(*exit_code)).IgnoreError();
    return;
  }
  if (const absl::Status cause = fault.Get(); !cause.ok()) {
    end = cause;
  } else if (end.ok()) {
    end = absl::InternalError("the command ended without an exit code");
  }
  frames.Write(ServerFrame::kError, DumpJson(ErrorJson(end))).IgnoreError();
}

}  // namespace

absl::Status RunExec(FrameStream& frames, SupervisorClient::Exec& exec, Cancellation& cancel) {
  const Cancellation::Registration registration(cancel, [&exec] { exec.Cancel(); });
  VIBE_RETURN_IF_ERROR(frames.Accept());
  ClientFault fault;
  std::thread output([&] {
    SendOutput(frames, exec, fault);
    frames.Shutdown();
  });
  Frame frame;
  while (true) {
    const absl::StatusOr<bool> read = frames.Read(frame);
    absl::Status status = read.status();
    if (read.ok() && *read) {
      const absl::StatusOr<v1::ExecRequest> request = ToRequest(std::move(frame));
      status = request.status();
      if (request.ok() && exec.Send(*request)) {
        continue;
      }
    } else if (read.ok()) {
      status = absl::CancelledError("the client closed the connection");
    }
    if (!status.ok()) {
      fault.Set(status);
      exec.Cancel();
    }
    break;
  }
  output.join();
  return absl::OkStatus();
}

}  // namespace vibe::host
