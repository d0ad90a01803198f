#include "base/status.h"
#include "containerd/call.h"
#include "containerd/client.h"
#include "containerd/mounts.h"
#include "github.com/containerd/containerd/api/services/diff/v1/diff.grpc.pb.h"
#include "github.com/containerd/containerd/api/services/snapshots/v1/snapshots.grpc.pb.h"

namespace vibe::containerd {
namespace {

namespace diff = ::containerd::services::diff::v1;
namespace snapshots = ::containerd::services::snapshots::v1;

constexpr absl::Duration kUnpackTimeout = absl::Hours(1);  // one layer on a slow disk

}  // namespace

absl::StatusOr<std::vector<Mount>> Client::PrepareSnapshot(const std::string& ns,
                                                           const std::string& lease,
                                                           const std::string& key,
                                                           const std::string& parent,
                                                           const Labels& labels) {
  const auto stub = snapshots::Snapshots::NewStub(impl_->channel);
  snapshots::PrepareSnapshotRequest request;
  request.set_snapshotter(impl_->options.snapshotter);
  request.set_key(key);
  request.set_parent(parent);
  request.mutable_labels()->insert(labels.begin(), labels.end());
  snapshots::PrepareSnapshotResponse response;
  VIBE_RETURN_IF_ERROR(impl_->Run(
      {.name = "snapshots.Prepare", .ns = ns, .lease = lease, .repeatable = false},
      [&](grpc::ClientContext* context) { return stub->Prepare(context, request, &response); }));
  return FromProto(response.mounts());
}

absl::StatusOr<std::vector<Mount>> Client::SnapshotMounts(const std::string& ns,
                                                          const std::string& key) {
  const auto stub = snapshots::Snapshots::NewStub(impl_->channel);
  snapshots::MountsRequest request;
  request.set_snapshotter(impl_->options.snapshotter);
  request.set_key(key);
  snapshots::MountsResponse response;
  VIBE_RETURN_IF_ERROR(impl_->Run(
      {.name = "snapshots.Mounts", .ns = ns},
      [&](grpc::ClientContext* context) { return stub->Mounts(context, request, &response); }));
  return FromProto(response.mounts());
}

absl::Status Client::CommitSnapshot(const std::string& ns, const std::string& lease,
                                    const std::string& name, const std::string& key,
                                    const Labels& labels) {
  const auto stub = snapshots::Snapshots::NewStub(impl_->channel);
  snapshots::CommitSnapshotRequest request;
  request.set_snapshotter(impl_->options.snapshotter);
  request.set_name(name);
  request.set_key(key);
  request.mutable_labels()->insert(labels.begin(), labels.end());
  google::protobuf::Empty response;
  return impl_->Run(
      {.name = "snapshots.Commit", .ns = ns, .lease = lease, .repeatable = false},
      [&](grpc::ClientContext* context) { return stub->Commit(context, request, &response); });
}

absl::StatusOr<bool> Client::HasSnapshot(const std::string& ns, const std::string& key) {
  const auto stub = snapshots::Snapshots::NewStub(impl_->channel);
  snapshots::StatSnapshotRequest request;
  request.set_snapshotter(impl_->options.snapshotter);
  request.set_key(key);
  snapshots::StatSnapshotResponse response;
  const absl::Status status = impl_->Run(
      {.name = "snapshots.Stat", .ns = ns},
      [&](grpc::ClientContext* context) { return stub->Stat(context, request, &response); });
  if (absl::IsNotFound(status)) {
    return false;
  }
  VIBE_RETURN_IF_ERROR(status);
  return true;
}

absl::Status Client::RemoveSnapshot(const std::string& ns, const std::string& key) {
  const auto stub = snapshots::Snapshots::NewStub(impl_->channel);
  snapshots::RemoveSnapshotRequest request;
  request.set_snapshotter(impl_->options.snapshotter);
  request.set_key(key);
  google::protobuf::Empty response;
  const absl::Status status = impl_->Run(
      {.name = "snapshots.Remove", .ns = ns},
      [&](grpc::ClientContext* context) { return stub->Remove(context, request, &response); });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::StatusOr<std::vector<Client::SnapshotInfo>> Client::ListSnapshots(const std::string& ns) {
  const auto stub = snapshots::Snapshots::NewStub(impl_->channel);
  snapshots::ListSnapshotsRequest request;
  request.set_snapshotter(impl_->options.snapshotter);
  std::vector<SnapshotInfo> result;
  VIBE_RETURN_IF_ERROR(
      impl_->Run({.name = "snapshots.List", .ns = ns}, [&](grpc::ClientContext* context) {
        result.clear();
        const auto reader = stub->List(context, request);
        snapshots::ListSnapshotsResponse part;
        while (reader->Read(&part)) {
          for (const auto& info : part.info()) {
            result.push_back({.name = info.name(),
                              .parent = info.parent(),
                              .committed = info.kind() == snapshots::COMMITTED});
          }
        }
        return reader->Finish();
      }));
  return result;
}

absl::StatusOr<std::string> Client::ApplyDiff(const std::string& ns, const std::string& lease,
                                              const std::string& media_type,
                                              const std::string& digest, int64_t size,
                                              const std::vector<Mount>& mounts) {
  const auto stub = diff::Diff::NewStub(impl_->channel);
  diff::ApplyRequest request;
  request.mutable_diff()->set_media_type(media_type);
  request.mutable_diff()->set_digest(digest);
  request.mutable_diff()->set_size(size);
  ToProto(mounts, request.mutable_mounts());
  diff::ApplyResponse response;
  // Not repeatable: a layer is unpacked into an empty folder once.
  VIBE_RETURN_IF_ERROR(impl_->Run(
      {.name = "diff.Apply",
       .ns = ns,
       .lease = lease,
       .timeout = kUnpackTimeout,
       .repeatable = false},
      [&](grpc::ClientContext* context) { return stub->Apply(context, request, &response); }));
  return response.applied().digest();
}

}  // namespace vibe::containerd
