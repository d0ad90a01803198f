#include "absl/strings/match.h"
#include "base/status.h"
#include "containerd/call.h"
#include "containerd/client.h"
#include "containerd/mounts.h"
#include "containerd/runtime_types.h"
#include "containerd/timestamps.h"
#include "github.com/containerd/containerd/api/services/tasks/v1/tasks.grpc.pb.h"

namespace vibe::containerd {
namespace {

namespace tasks = ::containerd::services::tasks::v1;
namespace types = ::containerd::v1::types;

constexpr absl::Duration kStartTimeout = absl::Minutes(2);  // a machine that swaps is slow

TaskStatus FromProto(types::Status status) {
  switch (status) {
    case types::CREATED:
      return TaskStatus::kCreated;
    case types::RUNNING:
      return TaskStatus::kRunning;
    case types::STOPPED:
      return TaskStatus::kStopped;
    case types::PAUSED:
    case types::PAUSING:
      return TaskStatus::kPaused;
    default:
      return TaskStatus::kUnknown;
  }
}

Task FromProto(const types::Process& process) {
  return {.container_id = process.container_id().empty() ? process.id() : process.container_id(),
          .pid = process.pid(),
          .status = FromProto(process.status()),
          .exit_code = process.exit_status(),
          .exited_at = TimeOf(process.exited_at())};
}

// The shim has /dev/null for no output too, but opens it for reading: a program that prints fails.
constexpr char kNowhere[] = "file:///dev/null";

std::string StdoutUri(const TaskIo& io) {
  return io.stdout_uri.empty() && !io.terminal ? kNowhere : io.stdout_uri;
}

// The shim crashes on a file for stdout and nothing for stderr.
std::string StderrUri(const TaskIo& io) {
  const std::string out = StdoutUri(io);
  return io.stderr_uri.empty() && absl::StrContains(out, "://") ? out : io.stderr_uri;
}

template <typename Request>  // CreateTaskRequest, ExecProcessRequest
void SetIo(const TaskIo& io, Request* request) {
  request->set_stdin(io.stdin_path);
  request->set_stdout(StdoutUri(io));
  request->set_stderr(io.terminal ? "" : StderrUri(io));
  request->set_terminal(io.terminal);
}

}  // namespace

absl::StatusOr<uint32_t> Client::CreateTask(const std::string& ns, const std::string& id,
                                            const std::vector<Mount>& rootfs, const TaskIo& io) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::CreateTaskRequest request;
  request.set_container_id(id);
  ToProto(rootfs, request.mutable_rootfs());
  SetIo(io, &request);
  if (!impl_->options.runtime_binary.empty()) {
    SetRuntimeOptions(impl_->options.runtime_binary, request.mutable_options());
  }
  tasks::CreateTaskResponse response;
  VIBE_RETURN_IF_ERROR(impl_->Run(
      {.name = "tasks.Create", .ns = ns, .timeout = kStartTimeout, .repeatable = false},
      [&](grpc::ClientContext* context) { return stub->Create(context, request, &response); }));
  return response.pid();
}

absl::Status Client::StartTask(const std::string& ns, const std::string& id,
                               const std::string& exec_id) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::StartRequest request;
  request.set_container_id(id);
  request.set_exec_id(exec_id);
  tasks::StartResponse response;
  return impl_->Run(
      {.name = "tasks.Start", .ns = ns, .timeout = kStartTimeout, .repeatable = false},
      [&](grpc::ClientContext* context) { return stub->Start(context, request, &response); });
}

absl::StatusOr<Task> Client::GetTask(const std::string& ns, const std::string& id) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::GetRequest request;
  request.set_container_id(id);
  tasks::GetResponse response;
  VIBE_RETURN_IF_ERROR(impl_->Run(
      {.name = "tasks.Get", .ns = ns},
      [&](grpc::ClientContext* context) { return stub->Get(context, request, &response); }));
  Task task = FromProto(response.process());
  task.container_id = id;
  return task;
}

absl::StatusOr<std::vector<Task>> Client::ListTasks(const std::string& ns) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::ListTasksResponse response;
  VIBE_RETURN_IF_ERROR(
      impl_->Run({.name = "tasks.List", .ns = ns},
                 [&](grpc::ClientContext* context) { return stub->List(context, {}, &response); }));
  std::vector<Task> result;
  for (const auto& process : response.tasks()) {
    result.push_back(FromProto(process));
  }
  return result;
}

absl::Status Client::KillTask(const std::string& ns, const std::string& id, int signal, bool all,
                              const std::string& exec_id) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::KillRequest request;
  request.set_container_id(id);
  request.set_exec_id(exec_id);
  request.set_signal(static_cast<uint32_t>(signal));
  request.set_all(all);
  google::protobuf::Empty response;
  const absl::Status status = impl_->Run(
      {.name = "tasks.Kill", .ns = ns},
      [&](grpc::ClientContext* context) { return stub->Kill(context, request, &response); });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::StatusOr<uint32_t> Client::WaitTask(const std::string& ns, const std::string& id,
                                          absl::Duration timeout, const std::string& exec_id) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::WaitRequest request;
  request.set_container_id(id);
  request.set_exec_id(exec_id);
  tasks::WaitResponse response;
  VIBE_RETURN_IF_ERROR(impl_->Run(
      {.name = "tasks.Wait", .ns = ns, .timeout = timeout},
      [&](grpc::ClientContext* context) { return stub->Wait(context, request, &response); }));
  return response.exit_status();
}

absl::Status Client::DeleteTask(const std::string& ns, const std::string& id) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::DeleteTaskRequest request;
  request.set_container_id(id);
  tasks::DeleteResponse response;
  const absl::Status status = impl_->Run(
      {.name = "tasks.Delete", .ns = ns},
      [&](grpc::ClientContext* context) { return stub->Delete(context, request, &response); });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::Status Client::PauseTask(const std::string& ns, const std::string& id) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::PauseTaskRequest request;
  request.set_container_id(id);
  google::protobuf::Empty response;
  return impl_->Run(
      {.name = "tasks.Pause", .ns = ns, .repeatable = false},
      [&](grpc::ClientContext* context) { return stub->Pause(context, request, &response); });
}

absl::Status Client::ResumeTask(const std::string& ns, const std::string& id) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::ResumeTaskRequest request;
  request.set_container_id(id);
  google::protobuf::Empty response;
  return impl_->Run(
      {.name = "tasks.Resume", .ns = ns, .repeatable = false},
      [&](grpc::ClientContext* context) { return stub->Resume(context, request, &response); });
}

absl::Status Client::ExecTask(const std::string& ns, const std::string& id,
                              const std::string& exec_id, const std::string& process_json,
                              const TaskIo& io) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::ExecProcessRequest request;
  request.set_container_id(id);
  request.set_exec_id(exec_id);
  request.mutable_spec()->set_type_url(kProcessType);
  request.mutable_spec()->set_value(process_json);
  SetIo(io, &request);
  google::protobuf::Empty response;
  return impl_->Run(
      {.name = "tasks.Exec", .ns = ns, .timeout = kStartTimeout, .repeatable = false},
      [&](grpc::ClientContext* context) { return stub->Exec(context, request, &response); });
}

absl::Status Client::ResizeTask(const std::string& ns, const std::string& id,
                                const std::string& exec_id, uint32_t columns, uint32_t rows) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::ResizePtyRequest request;
  request.set_container_id(id);
  request.set_exec_id(exec_id);
  request.set_width(columns);
  request.set_height(rows);
  google::protobuf::Empty response;
  return impl_->Run({.name = "tasks.ResizePty", .ns = ns}, [&](grpc::ClientContext* context) {
    return stub->ResizePty(context, request, &response);
  });
}

absl::Status Client::CloseStdin(const std::string& ns, const std::string& id,
                                const std::string& exec_id) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::CloseIORequest request;
  request.set_container_id(id);
  request.set_exec_id(exec_id);
  request.set_stdin(true);
  google::protobuf::Empty response;
  return impl_->Run({.name = "tasks.CloseIO", .ns = ns}, [&](grpc::ClientContext* context) {
    return stub->CloseIO(context, request, &response);
  });
}

absl::Status Client::DeleteExec(const std::string& ns, const std::string& id,
                                const std::string& exec_id) {
  const auto stub = tasks::Tasks::NewStub(impl_->channel);
  tasks::DeleteProcessRequest request;
  request.set_container_id(id);
  request.set_exec_id(exec_id);
  tasks::DeleteResponse response;
  const absl::Status status =
      impl_->Run({.name = "tasks.DeleteProcess", .ns = ns}, [&](grpc::ClientContext* context) {
        return stub->DeleteProcess(context, request, &response);
      });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace vibe::containerd
