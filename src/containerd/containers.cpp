#include "base/status.h"
#include "containerd/call.h"
#include "containerd/client.h"
#include "containerd/runtime_types.h"
#include "github.com/containerd/containerd/api/services/containers/v1/containers.grpc.pb.h"

namespace vibe::containerd {
namespace {

namespace containers = ::containerd::services::containers::v1;

}  // namespace

absl::Status Client::CreateContainer(const std::string& ns, const Container& container) {
  const auto stub = containers::Containers::NewStub(impl_->channel);
  containers::CreateContainerRequest request;
  auto* created = request.mutable_container();
  created->set_id(container.id);
  created->set_image(container.image);
  created->set_snapshotter(impl_->options.snapshotter);
  created->set_snapshot_key(container.snapshot_key);
  created->mutable_labels()->insert(container.labels.begin(), container.labels.end());
  created->mutable_runtime()->set_name(kRuntime);
  if (!impl_->options.runtime_binary.empty()) {
    SetRuntimeOptions(impl_->options.runtime_binary, created->mutable_runtime()->mutable_options());
  }
  created->mutable_spec()->set_type_url(kSpecType);
  created->mutable_spec()->set_value(container.spec_json);
  containers::CreateContainerResponse response;
  return impl_->Run(
      {.name = "containers.Create", .ns = ns, .repeatable = false},
      [&](grpc::ClientContext* context) { return stub->Create(context, request, &response); });
}

absl::StatusOr<std::vector<Container>> Client::ListContainers(const std::string& ns) {
  const auto stub = containers::Containers::NewStub(impl_->channel);
  std::vector<Container> result;
  VIBE_RETURN_IF_ERROR(
      impl_->Run({.name = "containers.List", .ns = ns}, [&](grpc::ClientContext* context) {
        result.clear();
        const auto reader = stub->ListStream(context, {});  // List answers in one limited message
        containers::ListContainerMessage message;
        while (reader->Read(&message)) {
          const auto& container = message.container();
          result.push_back(
              {.id = container.id(),
               .image = container.image(),
               .snapshot_key = container.snapshot_key(),
               .spec_json = container.spec().value(),
               .labels = Labels(container.labels().begin(), container.labels().end())});
        }
        return reader->Finish();
      }));
  return result;
}

absl::Status Client::DeleteContainer(const std::string& ns, const std::string& id) {
  const auto stub = containers::Containers::NewStub(impl_->channel);
  containers::DeleteContainerRequest request;
  request.set_id(id);
  google::protobuf::Empty response;
  const absl::Status status = impl_->Run(
      {.name = "containers.Delete", .ns = ns},
      [&](grpc::ClientContext* context) { return stub->Delete(context, request, &response); });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace vibe::containerd
