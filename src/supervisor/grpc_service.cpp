#include "supervisor/grpc_service.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "rpc/status.h"
#include "supervisor/exec_call.h"
#include "supervisor/grpc_answers.h"
#include "supervisor/machine_clock.h"

namespace vibe::supervisor {
namespace {

constexpr uint32_t kDefaultStopSeconds = 30;
constexpr uint32_t kMaxStopSeconds = 600;
constexpr uint32_t kShutdownSeconds = 10;
constexpr int kMaxSecrets = 1000;
constexpr size_t kMaxSecretBytes = 64 << 10;

absl::StatusOr<absl::Duration> StopTimeout(bool given, uint32_t seconds, uint32_t otherwise) {
  const uint32_t timeout = given ? seconds : otherwise;
  if (timeout > kMaxStopSeconds) {
    return absl::InvalidArgumentError(
        absl::StrCat("a timeout is at most ", kMaxStopSeconds, " seconds, not ", timeout));
  }
  return absl::Seconds(timeout);
}

template <typename Value, typename Response>
grpc::Status Answer(absl::StatusOr<Value> value, Response* response) {
  if (!value.ok()) {
    return rpc::ToGrpc(value.status());
  }
  *response = *std::move(value);
  return grpc::Status::OK;
}

grpc::Status Unimplemented(const char* what) {
  return rpc::ToGrpc(WithAdvice(
      absl::UnimplementedError(absl::StrCat(what, " is not part of this version of Vibe yet")),
      "update Vibe when a newer version has it"));
}

}  // namespace

grpc::Status GrpcService::EnsureProject(grpc::ServerContext* context,
                                        const v1::EnsureProjectRequest* request,
                                        v1::EnsureProjectResponse* response) {
  return Answer(supervisor_.EnsureProject(*request, [&] { return Ending(*context); }),
                response->mutable_project());
}

grpc::Status GrpcService::SetGrants(grpc::ServerContext*, const v1::SetGrantsRequest* request,
                                    v1::SetGrantsResponse* response) {
  return Answer(supervisor_.SetGrants(request->id(), request->grants()),
                response->mutable_project());
}

grpc::Status GrpcService::OpenProject(grpc::ServerContext* context,
                                      const v1::OpenProjectRequest* request,
                                      grpc::ServerWriter<v1::OpenProjectResponse>* writer) {
  Answers answers(writer);
  return answers.Finish(
      supervisor_.OpenProject(request->id(), answers.progress(), [&] { return Ending(*context); }));
}

grpc::Status GrpcService::StartProject(grpc::ServerContext* context,
                                       const v1::StartProjectRequest* request,
                                       grpc::ServerWriter<v1::StartProjectResponse>* writer) {
  size_t bytes = 0;
  for (const auto& [name, value] : request->secrets()) {
    bytes += name.size() + value.size();
  }
  if (request->secrets_size() > kMaxSecrets || bytes > kMaxSecretBytes * 16) {
    return rpc::ToGrpc(absl::InvalidArgumentError("there are too many secrets"));
  }
  Answers answers(writer);
  return answers.Finish(supervisor_.StartProject(
      request->id(), {request->secrets().begin(), request->secrets().end()}, answers.progress(),
      [&] { return Ending(*context); }));
}

grpc::Status GrpcService::StopProject(grpc::ServerContext*, const v1::StopProjectRequest* request,
                                      grpc::ServerWriter<v1::StopProjectResponse>* writer) {
  const auto timeout =
      StopTimeout(request->has_timeout_seconds(), request->timeout_seconds(), kDefaultStopSeconds);
  if (!timeout.ok()) {
    return rpc::ToGrpc(timeout.status());
  }
  Answers answers(writer);
  return answers.Finish(supervisor_.StopProject(request->id(), *timeout, answers.progress()));
}

grpc::Status GrpcService::DeleteProjectRuntime(grpc::ServerContext*,
                                               const v1::DeleteProjectRuntimeRequest* request,
                                               v1::DeleteProjectRuntimeResponse*) {
  return rpc::ToGrpc(supervisor_.DeleteProject(request->id(), request->delete_data()));
}

grpc::Status GrpcService::ListProjects(grpc::ServerContext*, const v1::ListProjectsRequest*,
                                       v1::ListProjectsResponse* response) {
  auto projects = supervisor_.ListProjects();
  if (!projects.ok()) {
    return rpc::ToGrpc(projects.status());
  }
  for (v1::Project& project : *projects) {
    *response->add_projects() = std::move(project);
  }
  return grpc::Status::OK;
}

grpc::Status GrpcService::GetProjectStatus(grpc::ServerContext*,
                                           const v1::GetProjectStatusRequest* request,
                                           v1::GetProjectStatusResponse* response) {
  return Answer(supervisor_.GetProject(request->id()), response->mutable_project());
}

grpc::Status GrpcService::ResolvePorts(grpc::ServerContext*, const v1::ResolvePortsRequest* request,
                                       v1::ResolvePortsResponse* response) {
  return Answer(supervisor_.ResolvePorts(request->id()), response);
}

grpc::Status GrpcService::Health(grpc::ServerContext*, const v1::HealthRequest*,
                                 v1::HealthResponse* response) {
  *response = supervisor_.Health();
  return grpc::Status::OK;
}

grpc::ServerBidiReactor<v1::ExecRequest, v1::ExecResponse>* GrpcService::Exec(
    grpc::CallbackServerContext*) {
  return StartExecCall(supervisor_, execs_);
}

grpc::Status GrpcService::DiskUsage(grpc::ServerContext*, const v1::DiskUsageRequest*,
                                    v1::DiskUsageResponse* response) {
  return Answer(supervisor_.DiskUsage(), response);
}

grpc::Status GrpcService::ListImages(grpc::ServerContext*, const v1::ListImagesRequest*,
                                     v1::ListImagesResponse* response) {
  return Answer(supervisor_.ListImages(), response);
}

grpc::Status GrpcService::PruneImages(grpc::ServerContext*, const v1::PruneImagesRequest*,
                                      v1::PruneImagesResponse* response) {
  return Answer(supervisor_.PruneImages(), response);
}

grpc::Status GrpcService::SetHostNetwork(grpc::ServerContext*,
                                         const v1::SetHostNetworkRequest* request,
                                         v1::SetHostNetworkResponse*) {
  return rpc::ToGrpc(supervisor_.SetHostNetwork(*request));
}

grpc::Status GrpcService::SyncClock(grpc::ServerContext*, const v1::SyncClockRequest* request,
                                    v1::SyncClockResponse* response) {
  const auto offset = SetMachineClock(absl::FromUnixSeconds(request->time().seconds()) +
                                      absl::Nanoseconds(request->time().nanos()));
  if (!offset.ok()) {
    return rpc::ToGrpc(offset.status());
  }
  response->set_offset_nanos(absl::ToInt64Nanoseconds(*offset));
  return grpc::Status::OK;
}

grpc::Status GrpcService::SyncDisk(grpc::ServerContext*, const v1::SyncDiskRequest*,
                                   v1::SyncDiskResponse*) {
  ::sync();
  return grpc::Status::OK;
}

grpc::Status GrpcService::Shutdown(grpc::ServerContext*, const v1::ShutdownRequest* request,
                                   v1::ShutdownResponse*) {
  const auto timeout =
      StopTimeout(request->has_timeout_seconds(), request->timeout_seconds(), kShutdownSeconds);
  return rpc::ToGrpc(timeout.ok() ? supervisor_.Shutdown(*timeout) : timeout.status());
}

grpc::Status GrpcService::ValidateCompose(grpc::ServerContext*, const v1::ValidateComposeRequest*,
                                          v1::ValidateComposeResponse*) {
  return Unimplemented("importing Compose files");
}

}  // namespace vibe::supervisor
