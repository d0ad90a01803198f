#include "base/status.h"
#include "containerd/call.h"
#include "containerd/client.h"
#include "github.com/containerd/containerd/api/services/images/v1/images.grpc.pb.h"

namespace vibe::containerd {
namespace {

namespace images = ::containerd::services::images::v1;

constexpr absl::Duration kCollectTimeout = absl::Minutes(10);  // deletes whole trees of files

Image FromProto(const images::Image& image) {
  return {.name = image.name(),
          .target_media_type = image.target().media_type(),
          .target_digest = image.target().digest(),
          .target_size = image.target().size(),
          .labels = Labels(image.labels().begin(), image.labels().end())};
}

images::Image ToProto(const Image& image) {
  images::Image result;
  result.set_name(image.name);
  result.mutable_target()->set_media_type(image.target_media_type);
  result.mutable_target()->set_digest(image.target_digest);
  result.mutable_target()->set_size(image.target_size);
  result.mutable_labels()->insert(image.labels.begin(), image.labels.end());
  return result;
}

}  // namespace

absl::Status Client::PutImage(const std::string& ns, const std::string& lease, const Image& image) {
  const auto stub = images::Images::NewStub(impl_->channel);
  images::CreateImageRequest create;
  *create.mutable_image() = ToProto(image);
  images::CreateImageResponse created;
  const absl::Status status = impl_->Run(
      {.name = "images.Create", .ns = ns, .lease = lease},
      [&](grpc::ClientContext* context) { return stub->Create(context, create, &created); });
  if (!absl::IsAlreadyExists(status)) {
    return status;
  }
  images::UpdateImageRequest update;
  *update.mutable_image() = create.image();
  images::UpdateImageResponse updated;
  return impl_->Run(
      {.name = "images.Update", .ns = ns, .lease = lease},
      [&](grpc::ClientContext* context) { return stub->Update(context, update, &updated); });
}

absl::StatusOr<Image> Client::GetImage(const std::string& ns, const std::string& name) {
  const auto stub = images::Images::NewStub(impl_->channel);
  images::GetImageRequest request;
  request.set_name(name);
  images::GetImageResponse response;
  VIBE_RETURN_IF_ERROR(impl_->Run(
      {.name = "images.Get", .ns = ns},
      [&](grpc::ClientContext* context) { return stub->Get(context, request, &response); }));
  return FromProto(response.image());
}

absl::StatusOr<std::vector<Image>> Client::ListImages(const std::string& ns) {
  const auto stub = images::Images::NewStub(impl_->channel);
  images::ListImagesResponse response;
  VIBE_RETURN_IF_ERROR(
      impl_->Run({.name = "images.List", .ns = ns},
                 [&](grpc::ClientContext* context) { return stub->List(context, {}, &response); }));
  std::vector<Image> result;
  for (const auto& image : response.images()) {
    result.push_back(FromProto(image));
  }
  return result;
}

absl::Status Client::DeleteImage(const std::string& ns, const std::string& name,
                                 bool collect_garbage_now) {
  const auto stub = images::Images::NewStub(impl_->channel);
  images::DeleteImageRequest request;
  request.set_name(name);
  request.set_sync(collect_garbage_now);
  google::protobuf::Empty response;
  const absl::Status status = impl_->Run(
      {.name = "images.Delete", .ns = ns, .timeout = kCollectTimeout},
      [&](grpc::ClientContext* context) { return stub->Delete(context, request, &response); });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace vibe::containerd
