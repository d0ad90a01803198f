#include "supervisor/exec_call.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/status.h"
#include "rpc/status.h"
#include "supervisor/exec.h"

namespace vibe::supervisor {
namespace {

// Callbacks come on gRPC's threads and never block; the session runs on a thread of its own.
class ExecCall : public grpc::ServerBidiReactor<v1::ExecRequest, v1::ExecResponse> {
 public:
  ExecCall(Supervisor& supervisor, ThreadSet& threads)
      : supervisor_(supervisor), threads_(threads) {
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    std::shared_ptr<ExecSession> session;
    {
      absl::MutexLock lock(&mutex_);
      session = session_;
    }
    if (session == nullptr) {
      Begin(ok);
    } else if (ok) {
      session->Put(std::move(request_));  // the next read starts when it was taken
    } else {
      // The client has no more to say, as at the end of its standard input. When it is gone,
      // OnCancel comes.
      v1::ExecRequest end;
      end.set_close_stdin(true);
      {
        absl::MutexLock lock(&mutex_);
        reads_ended_ = true;
      }
      session->Put(std::move(end));
    }
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    broken_ = broken_ || !ok;
  }

  void OnCancel() override {
    std::shared_ptr<ExecSession> session;
    {
      absl::MutexLock lock(&mutex_);
      broken_ = true;
      session = session_;
    }
    if (session != nullptr) {
      session->Abandon();
    }
  }

  void OnDone() override { delete this; }

 private:
  void Begin(bool ok) {
    if (!ok || !request_.has_start()) {
      Finish(rpc::ToGrpc(absl::InvalidArgumentError("the first message has to say what to run")));
      return;
    }
    if (!threads_.TryRun([this] { Serve(); })) {
      Finish(rpc::ToGrpc(absl::ResourceExhaustedError(
          "too many commands run in services already: wait for one of them to end")));
    }
  }

  void Serve() {
    Finish(rpc::ToGrpc(RunSession()));  // the last touch: the call may be gone now
  }

  absl::Status RunSession() {
    const v1::ExecRequest::Start start = request_.start();
    VIBE_ASSIGN_OR_RETURN(const Supervisor::RunningContainer target,
                          supervisor_.FindRunning(start.id(), start.service()));
    supervisor_.working_room().Make();  // it may be what removes the app's files
    const auto session =
        std::make_shared<ExecSession>(ExecTarget{.containerd = supervisor_.containerd(),
                                                 .ns = target.ns,
                                                 .container_id = target.container_id,
                                                 .directory = supervisor_.run_directory() / "exec"},
                                      start);
    {
      absl::MutexLock lock(&mutex_);
      if (broken_) {
        return absl::CancelledError("the caller went away");
      }
      session_ = session;
    }
    StartRead(&request_);
    VIBE_ASSIGN_OR_RETURN(
        const uint32_t exit_code,
        session->Run([this](ExecSession::Stream stream,
                            absl::string_view bytes) { return Send(stream, bytes); },
                     [this] { ReadOn(); }));
    v1::ExecResponse response;
    response.set_exit_code(exit_code);
    return Write(response);
  }

  absl::Status Send(ExecSession::Stream stream, absl::string_view bytes) {
    v1::ExecResponse response;
    std::string* field = stream == ExecSession::Stream::kStdout ? response.mutable_stdout()
                                                                : response.mutable_stderr();
    field->assign(bytes.data(), bytes.size());
    return Write(response);
  }

  void ReadOn() {
    absl::MutexLock lock(&mutex_);
    if (!reads_ended_) {
      StartRead(&request_);
    }
  }

  // Waits until the message is on its way: a client that does not read slows the program down.
  absl::Status Write(const v1::ExecResponse& response) {
    absl::MutexLock lock(&mutex_);
    if (!broken_) {
      writing_ = true;
      mutex_.Unlock();
      StartWrite(&response);
      mutex_.Lock();
      const auto written = [this] {
        mutex_.AssertReaderHeld();
        return !writing_;
      };
      mutex_.Await(absl::Condition(&written));
    }
    return broken_ ? absl::CancelledError("the caller went away") : absl::OkStatus();
  }

  Supervisor& supervisor_;
  ThreadSet& threads_;
  v1::ExecRequest request_;  // what the pending read fills
  absl::Mutex mutex_;
  std::shared_ptr<ExecSession> session_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  bool reads_ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerBidiReactor<v1::ExecRequest, v1::ExecResponse>* StartExecCall(Supervisor& supervisor,
                                                                          ThreadSet& threads) {
  return new ExecCall(supervisor, threads);
}

}  // namespace vibe::supervisor
