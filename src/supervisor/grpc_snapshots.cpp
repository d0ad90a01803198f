// The calls of GrpcService about snapshots.
#include <utility>

#include "rpc/status.h"
#include "supervisor/grpc_answers.h"
#include "supervisor/grpc_service.h"

namespace vibe::supervisor {

grpc::Status GrpcService::SaveSnapshot(grpc::ServerContext* context,
                                       const v1::SaveSnapshotRequest* request,
                                       grpc::ServerWriter<v1::SaveSnapshotResponse>* writer) {
  Answers answers(writer);
  auto saved =
      supervisor_.SaveSnapshot(*request, answers.progress(), [&] { return Ending(*context); });
  if (!saved.ok()) {
    return rpc::ToGrpc(saved.status());
  }
  v1::SaveSnapshotResponse response;
  *response.mutable_snapshot() = *std::move(saved);
  return answers.Finish(response);
}

grpc::Status GrpcService::RestoreSnapshot(grpc::ServerContext* context,
                                          const v1::RestoreSnapshotRequest* request,
                                          grpc::ServerWriter<v1::RestoreSnapshotResponse>* writer) {
  Answers answers(writer);
  auto restored =
      supervisor_.RestoreSnapshot(*request, answers.progress(), [&] { return Ending(*context); });
  if (!restored.ok()) {
    return rpc::ToGrpc(restored.status());
  }
  v1::RestoreSnapshotResponse response;
  *response.mutable_project() = std::move(restored->project);
  response.set_safety_snapshot_id(restored->safety_snapshot_id);
  *response.mutable_warnings() = {restored->warnings.begin(), restored->warnings.end()};
  return answers.Finish(response);
}

grpc::Status GrpcService::ListSnapshots(grpc::ServerContext*,
                                        const v1::ListSnapshotsRequest* request,
                                        v1::ListSnapshotsResponse* response) {
  auto snapshots = supervisor_.ListSnapshots(request->id());
  if (!snapshots.ok()) {
    return rpc::ToGrpc(snapshots.status());
  }
  for (v1::Snapshot& snapshot : *snapshots) {
    *response->add_snapshots() = std::move(snapshot);
  }
  return grpc::Status::OK;
}

grpc::Status GrpcService::DeleteSnapshot(grpc::ServerContext*,
                                         const v1::DeleteSnapshotRequest* request,
                                         v1::DeleteSnapshotResponse*) {
  return rpc::ToGrpc(supervisor_.DeleteSnapshot(request->id(), request->snapshot_id()));
}

grpc::Status GrpcService::DuplicateProject(
    grpc::ServerContext* context, const v1::DuplicateProjectRequest* request,
    grpc::ServerWriter<v1::DuplicateProjectResponse>* writer) {
  Answers answers(writer);
  return answers.Finish(
      supervisor_.DuplicateProject(*request, answers.progress(), [&] { return Ending(*context); }));
}

}  // namespace vibe::supervisor
