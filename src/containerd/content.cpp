#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "containerd/call.h"
#include "containerd/client.h"
#include "containerd/content_writer.h"
#include "github.com/containerd/containerd/api/services/content/v1/content.grpc.pb.h"

namespace vibe::containerd {
namespace {

namespace content = ::containerd::services::content::v1;

BlobInfo ToBlobInfo(const content::Info& info) {
  return {.size = info.size(), .labels = Labels(info.labels().begin(), info.labels().end())};
}

// A blob that the namespace has already.
class ExistingBlob final : public BlobWriter {
 public:
  ExistingBlob(Client& client, std::string ns, std::string digest, int64_t size)
      : client_(client), ns_(std::move(ns)), digest_(std::move(digest)), size_(size) {}

  int64_t offset() const override { return size_; }
  absl::Status Write(absl::string_view bytes) override {
    return bytes.empty() ? absl::OkStatus()
                         : absl::AlreadyExistsError(absl::StrCat(digest_, " is there already"));
  }
  absl::Status Commit(const Labels& labels) override {
    return labels.empty() ? absl::OkStatus() : client_.SetBlobLabels(ns_, digest_, labels);
  }

 private:
  Client& client_;
  const std::string ns_, digest_;
  const int64_t size_;
};

}  // namespace

absl::StatusOr<BlobInfo> Client::StatBlob(const std::string& ns, const std::string& digest) {
  const auto stub = content::Content::NewStub(impl_->channel);
  content::InfoRequest request;
  request.set_digest(digest);
  content::InfoResponse response;
  VIBE_RETURN_IF_ERROR(impl_->Run(
      {.name = "content.Info", .ns = ns},
      [&](grpc::ClientContext* context) { return stub->Info(context, request, &response); }));
  return ToBlobInfo(response.info());
}

absl::StatusOr<std::string> Client::ReadBlob(const std::string& ns, const std::string& digest,
                                             int64_t max_bytes) {
  const auto stub = content::Content::NewStub(impl_->channel);
  content::ReadContentRequest request;
  request.set_digest(digest);
  std::string bytes;
  bool too_long = false;
  const absl::Status status =
      impl_->Run({.name = "content.Read", .ns = ns}, [&](grpc::ClientContext* context) {
        bytes.clear();
        const auto reader = stub->Read(context, request);
        content::ReadContentResponse part;
        while (reader->Read(&part)) {
          if (static_cast<int64_t>(bytes.size() + part.data().size()) > max_bytes) {
            too_long = true;
            context->TryCancel();
            break;
          }
          bytes += part.data();
        }
        return reader->Finish();
      });
  if (too_long) {
    return absl::OutOfRangeError(absl::StrCat(digest, " is longer than ", max_bytes, " bytes"));
  }
  VIBE_RETURN_IF_ERROR(status);
  return bytes;
}

absl::StatusOr<std::unique_ptr<BlobWriter>> Client::OpenBlobWriter(const std::string& ns,
                                                                   const std::string& lease,
                                                                   const std::string& ref,
                                                                   const std::string& digest,
                                                                   int64_t size) {
  VIBE_RETURN_IF_ERROR(impl_->AwaitService());
  const Ingest ingest = {.ns = ns, .lease = lease, .ref = ref, .digest = digest, .size = size};
  auto writer = OpenIngest(*this, impl_->channel, ingest);
  if (writer.ok() && (*writer)->offset() > size) {
    // What an earlier attempt left cannot be the start of this blob.
    writer->reset();
    VIBE_RETURN_IF_ERROR(AbortIngest(ns, ref));
    writer = OpenIngest(*this, impl_->channel, ingest);
  }
  if (!absl::IsAlreadyExists(writer.status())) {
    return writer;
  }
  VIBE_ASSIGN_OR_RETURN(const BlobInfo existing, StatBlob(ns, digest));
  if (existing.size != size) {
    return absl::DataLossError(
        absl::StrCat(digest, " is announced with ", size, " bytes but has ", existing.size));
  }
  return std::make_unique<ExistingBlob>(*this, ns, digest, size);
}

absl::Status Client::WriteBlob(const std::string& ns, const std::string& lease,
                               const std::string& digest, absl::string_view bytes,
                               const Labels& labels) {
  VIBE_ASSIGN_OR_RETURN(const auto writer,
                        OpenBlobWriter(ns, lease, absl::StrCat("blob-", digest), digest,
                                       static_cast<int64_t>(bytes.size())));
  VIBE_RETURN_IF_ERROR(writer->Write(bytes.substr(static_cast<size_t>(writer->offset()))));
  return writer->Commit(labels);
}

absl::Status Client::SetBlobLabels(const std::string& ns, const std::string& digest,
                                   const Labels& labels) {
  const auto stub = content::Content::NewStub(impl_->channel);
  content::UpdateRequest request;
  request.mutable_info()->set_digest(digest);
  request.mutable_info()->mutable_labels()->insert(labels.begin(), labels.end());
  for (const auto& [key, value] : labels) {
    request.mutable_update_mask()->add_paths(absl::StrCat("labels.", key));
  }
  content::UpdateResponse response;
  return impl_->Run({.name = "content.Update", .ns = ns}, [&](grpc::ClientContext* context) {
    return stub->Update(context, request, &response);
  });
}

absl::StatusOr<std::vector<std::pair<std::string, BlobInfo>>> Client::ListBlobs(
    const std::string& ns) {
  const auto stub = content::Content::NewStub(impl_->channel);
  std::vector<std::pair<std::string, BlobInfo>> blobs;
  VIBE_RETURN_IF_ERROR(
      impl_->Run({.name = "content.List", .ns = ns}, [&](grpc::ClientContext* context) {
        blobs.clear();
        const auto reader = stub->List(context, {});
        content::ListContentResponse part;
        while (reader->Read(&part)) {
          for (const auto& info : part.info()) {
            blobs.emplace_back(info.digest(), ToBlobInfo(info));
          }
        }
        return reader->Finish();
      }));
  return blobs;
}

absl::Status Client::DeleteBlob(const std::string& ns, const std::string& digest) {
  const auto stub = content::Content::NewStub(impl_->channel);
  content::DeleteContentRequest request;
  request.set_digest(digest);
  google::protobuf::Empty response;
  const absl::Status status = impl_->Run(
      {.name = "content.Delete", .ns = ns},
      [&](grpc::ClientContext* context) { return stub->Delete(context, request, &response); });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::StatusOr<std::vector<std::string>> Client::ListIngests(const std::string& ns) {
  const auto stub = content::Content::NewStub(impl_->channel);
  content::ListStatusesResponse response;
  VIBE_RETURN_IF_ERROR(impl_->Run(
      {.name = "content.ListStatuses", .ns = ns},
      [&](grpc::ClientContext* context) { return stub->ListStatuses(context, {}, &response); }));
  std::vector<std::string> refs;
  for (const auto& status : response.statuses()) {
    refs.push_back(status.ref());
  }
  return refs;
}

absl::Status Client::AbortIngest(const std::string& ns, const std::string& ref) {
  const auto stub = content::Content::NewStub(impl_->channel);
  content::AbortRequest request;
  request.set_ref(ref);
  google::protobuf::Empty response;
  const absl::Status status = impl_->Run(
      {.name = "content.Abort", .ns = ns},
      [&](grpc::ClientContext* context) { return stub->Abort(context, request, &response); });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace vibe::containerd
