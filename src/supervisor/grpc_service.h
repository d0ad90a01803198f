// vibe.v1.Supervisor (proto/vibe/v1/supervisor.proto) over class Supervisor: requests are checked
// for size, statuses and streams are translated, nothing is decided here.
//
// Calls block a thread of the server each, but Exec, which has one of its own. Followers of logs
// and of events are limited in number, so that they leave threads for everybody else.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>

#include "supervisor/supervisor.h"
#include "supervisor/thread_set.h"
#include "vibe/v1/supervisor.grpc.pb.h"

namespace vibe::supervisor {

// Of the server: blocking calls beyond the followers find threads left.
inline constexpr int kMaxServerThreads = 256;
inline constexpr int kMaxFollowers = 128;
inline constexpr size_t kMaxExecs = 128;

class GrpcService final : public v1::Supervisor::WithCallbackMethod_Exec<v1::Supervisor::Service> {
 public:
  // `supervisor` outlives this, and this outlives the server.
  explicit GrpcService(Supervisor& supervisor) : supervisor_(supervisor) {}

  // Ends what would otherwise run for as long as its client stays.
  void EndStreams() { ending_ = true; }

  grpc::Status EnsureProject(grpc::ServerContext* context, const v1::EnsureProjectRequest* request,
                             v1::EnsureProjectResponse* response) override;
  grpc::Status SetGrants(grpc::ServerContext* context, const v1::SetGrantsRequest* request,
                         v1::SetGrantsResponse* response) override;
  grpc::Status OpenProject(grpc::ServerContext* context, const v1::OpenProjectRequest* request,
                           grpc::ServerWriter<v1::OpenProjectResponse>* writer) override;
  grpc::Status StartProject(grpc::ServerContext* context, const v1::StartProjectRequest* request,
                            grpc::ServerWriter<v1::StartProjectResponse>* writer) override;
  grpc::Status StopProject(grpc::ServerContext* context, const v1::StopProjectRequest* request,
                           grpc::ServerWriter<v1::StopProjectResponse>* writer) override;
  grpc::Status DeleteProjectRuntime(grpc::ServerContext* context,
                                    const v1::DeleteProjectRuntimeRequest* request,
                                    v1::DeleteProjectRuntimeResponse* response) override;
  grpc::Status ListProjects(grpc::ServerContext* context, const v1::ListProjectsRequest* request,
                            v1::ListProjectsResponse* response) override;
  grpc::Status GetProjectStatus(grpc::ServerContext* context,
                                const v1::GetProjectStatusRequest* request,
                                v1::GetProjectStatusResponse* response) override;
  grpc::Status GetProjectLogs(grpc::ServerContext* context,
                              const v1::GetProjectLogsRequest* request,
                              grpc::ServerWriter<v1::GetProjectLogsResponse>* writer) override;
  grpc::Status ImportPackage(grpc::ServerContext* context,
                             grpc::ServerReaderWriter<v1::ImportPackageResponse,
                                                      v1::ImportPackageRequest>* stream) override;
  grpc::Status ResolvePorts(grpc::ServerContext* context, const v1::ResolvePortsRequest* request,
                            v1::ResolvePortsResponse* response) override;
  grpc::Status Health(grpc::ServerContext* context, const v1::HealthRequest* request,
                      v1::HealthResponse* response) override;
  grpc::Status Events(grpc::ServerContext* context, const v1::EventsRequest* request,
                      grpc::ServerWriter<v1::EventsResponse>* writer) override;
  grpc::ServerBidiReactor<v1::ExecRequest, v1::ExecResponse>* Exec(
      grpc::CallbackServerContext* context) override;
  grpc::Status DiskUsage(grpc::ServerContext* context, const v1::DiskUsageRequest* request,
                         v1::DiskUsageResponse* response) override;
  grpc::Status ListImages(grpc::ServerContext* context, const v1::ListImagesRequest* request,
                          v1::ListImagesResponse* response) override;
  grpc::Status PruneImages(grpc::ServerContext* context, const v1::PruneImagesRequest* request,
                           v1::PruneImagesResponse* response) override;
  grpc::Status SetHostNetwork(grpc::ServerContext* context,
                              const v1::SetHostNetworkRequest* request,
                              v1::SetHostNetworkResponse* response) override;
  grpc::Status SyncClock(grpc::ServerContext* context, const v1::SyncClockRequest* request,
                         v1::SyncClockResponse* response) override;
  grpc::Status SyncDisk(grpc::ServerContext* context, const v1::SyncDiskRequest* request,
                        v1::SyncDiskResponse* response) override;
  grpc::Status Shutdown(grpc::ServerContext* context, const v1::ShutdownRequest* request,
                        v1::ShutdownResponse* response) override;

  grpc::Status SaveSnapshot(grpc::ServerContext* context, const v1::SaveSnapshotRequest* request,
                            grpc::ServerWriter<v1::SaveSnapshotResponse>* writer) override;
  grpc::Status RestoreSnapshot(grpc::ServerContext* context,
                               const v1::RestoreSnapshotRequest* request,
                               grpc::ServerWriter<v1::RestoreSnapshotResponse>* writer) override;
  grpc::Status ListSnapshots(grpc::ServerContext* context, const v1::ListSnapshotsRequest* request,
                             v1::ListSnapshotsResponse* response) override;
  grpc::Status DeleteSnapshot(grpc::ServerContext* context,
                              const v1::DeleteSnapshotRequest* request,
                              v1::DeleteSnapshotResponse* response) override;
  grpc::Status DuplicateProject(grpc::ServerContext* context,
                                const v1::DuplicateProjectRequest* request,
                                grpc::ServerWriter<v1::DuplicateProjectResponse>* writer) override;
  // Not in this version: UNIMPLEMENTED with a message that says so.
  grpc::Status ValidateCompose(grpc::ServerContext* context,
                               const v1::ValidateComposeRequest* request,
                               v1::ValidateComposeResponse* response) override;

 private:
  bool Ending(const grpc::ServerContext& context) const { return ending_ || context.IsCancelled(); }

  Supervisor& supervisor_;
  std::atomic<bool> ending_ = false;
  std::atomic<int> followers_ = 0;
  ThreadSet execs_{kMaxExecs};
};

}  // namespace vibe::supervisor
