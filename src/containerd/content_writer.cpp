#include "containerd/content_writer.h"

#include <grpcpp/alarm.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "github.com/containerd/containerd/api/services/content/v1/content.grpc.pb.h"

namespace vibe::containerd {
namespace {

namespace content = ::containerd::services::content::v1;

constexpr size_t kFrameBytes = 1 << 20;
constexpr absl::Duration kStreamTimeout = absl::Hours(24);
// containerd hashes and syncs what it has before it answers an opening or a commit.
constexpr absl::Duration kFrameTimeout = absl::Minutes(5);

using Stream =
    grpc::ClientReaderWriter<content::WriteContentRequest, content::WriteContentResponse>;

// Cancels the stream when it is not destroyed in time: a stream's own deadline cannot say "for each
// frame".
class FrameTimer {
 public:
  explicit FrameTimer(std::shared_ptr<grpc::ClientContext> context) {
    alarm_.Set(ToDeadline(absl::Now() + kFrameTimeout),
               [context = std::move(context)](bool expired) {
                 if (expired) {
                   context->TryCancel();
                 }
               });
  }
  ~FrameTimer() { alarm_.Cancel(); }

 private:
  grpc::Alarm alarm_;
};

class IngestWriter final : public BlobWriter {
 public:
  IngestWriter(Client& client, Ingest ingest, std::shared_ptr<content::Content::Stub> stub,
               std::shared_ptr<grpc::ClientContext> context)
      : client_(client),
        ingest_(std::move(ingest)),
        stub_(std::move(stub)),
        context_(std::move(context)),
        stream_(stub_->Write(context_.get())) {}

  ~IngestWriter() override {
    if (stream_ != nullptr) {
      Flush().IgnoreError();  // the more is there, the less is fetched again
      Finish().IgnoreError();
    }
  }

  // Asks how much of the blob there is.
  absl::Status Open() {
    content::WriteContentRequest request;
    request.set_action(content::STAT);
    request.set_ref(ingest_.ref);
    request.set_expected(ingest_.digest);
    request.set_total(ingest_.size);
    VIBE_ASSIGN_OR_RETURN(sent_, Exchange(request));
    start_ = sent_;
    return absl::OkStatus();
  }

  int64_t offset() const override { return start_; }

  absl::Status Write(absl::string_view bytes) override {
    if (stream_ == nullptr) {
      return Closed();
    }
    if (static_cast<int64_t>(bytes.size()) >
        ingest_.size - sent_ - static_cast<int64_t>(buffer_.size())) {
      return absl::DataLossError(absl::StrCat(ingest_.digest, " has more than the ", ingest_.size,
                                              " bytes that were announced"));
    }
    while (!bytes.empty()) {
      const size_t count = std::min(bytes.size(), kFrameBytes - buffer_.size());
      buffer_.append(bytes.data(), count);
      bytes.remove_prefix(count);
      if (buffer_.size() == kFrameBytes) {
        VIBE_RETURN_IF_ERROR(Flush());
      }
    }
    return absl::OkStatus();
  }

  absl::Status Commit(const Labels& labels) override {
    if (stream_ == nullptr) {
      return Closed();
    }
    VIBE_RETURN_IF_ERROR(Flush());
    if (sent_ != ingest_.size) {
      return absl::FailedPreconditionError(absl::StrCat(ingest_.digest, ": ", sent_, " of ",
                                                        ingest_.size,
                                                        " bytes were written before the commit"));
    }
    content::WriteContentRequest request;
    request.set_action(content::COMMIT);
    request.set_ref(ingest_.ref);
    request.set_expected(ingest_.digest);
    request.set_total(ingest_.size);
    request.set_offset(sent_);
    request.mutable_labels()->insert(labels.begin(), labels.end());
    absl::Status status = Exchange(request).status();
    if (stream_ != nullptr) {
      status = Finish();
    }
    if (absl::IsAlreadyExists(status)) {  // somebody else was faster
      return labels.empty() ? absl::OkStatus()
                            : client_.SetBlobLabels(ingest_.ns, ingest_.digest, labels);
    }
    if (absl::IsFailedPrecondition(status)) {
      client_.AbortIngest(ingest_.ns, ingest_.ref).IgnoreError();
      return absl::DataLossError(absl::StrCat("the bytes that came do not have the digest ",
                                              ingest_.digest, " (", status.message(), ")"));
    }
    return status;
  }

 private:
  static absl::Status Closed() {
    return absl::FailedPreconditionError(
        "the blob's writer was closed by an earlier error or commit");
  }

  absl::Status Flush() {
    if (buffer_.empty()) {
      return absl::OkStatus();
    }
    const auto count = static_cast<int64_t>(buffer_.size());
    content::WriteContentRequest request;
    request.set_action(content::WRITE);
    request.set_ref(ingest_.ref);
    request.set_offset(sent_);
    request.set_data(std::exchange(buffer_, {}));
    VIBE_ASSIGN_OR_RETURN(const int64_t reached, Exchange(request));
    if (reached != sent_ + count) {
      Finish().IgnoreError();
      return absl::InternalError(absl::StrCat("containerd content.Write: at ", reached,
                                              " bytes, expected ", sent_ + count));
    }
    sent_ = reached;
    return absl::OkStatus();
  }

  // Sends one frame and returns the ingest's offset after it. On an error the stream is closed.
  absl::StatusOr<int64_t> Exchange(const content::WriteContentRequest& request) {
    const FrameTimer timer(context_);
    content::WriteContentResponse response;
    if (stream_->Write(request) && stream_->Read(&response)) {
      return response.offset();
    }
    absl::Status status = Finish();
    return status.ok() ? absl::InternalError("containerd content.Write: ended without an answer")
                       : status;
  }

  absl::Status Finish() {
    const FrameTimer timer(context_);
    stream_->WritesDone();
    // The answer to a commit comes twice, and Finish would wait for ever with one unread.
    content::WriteContentResponse rest;
    while (stream_->Read(&rest)) {
    }
    const grpc::Status status = stream_->Finish();
    stream_.reset();
    return ToStatus(status, "content.Write");
  }

  Client& client_;
  const Ingest ingest_;
  const std::shared_ptr<content::Content::Stub> stub_;
  const std::shared_ptr<grpc::ClientContext> context_;
  std::unique_ptr<Stream> stream_;  // null once closed
  int64_t start_ = 0;
  int64_t sent_ = 0;  // what containerd has
  std::string buffer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlobWriter>> OpenIngest(Client& client,
                                                       std::shared_ptr<grpc::Channel> channel,
                                                       Ingest ingest) {
  const Call call = {.name = "content.Write", .ns = ingest.ns, .lease = ingest.lease};
  VIBE_ASSIGN_OR_RETURN(std::shared_ptr<grpc::ClientContext> context,
                        MakeContext(call, absl::Now() + kStreamTimeout));
  auto writer = std::make_unique<IngestWriter>(
      client, std::move(ingest), content::Content::NewStub(channel), std::move(context));
  VIBE_RETURN_IF_ERROR(writer->Open());
  return writer;
}

}  // namespace vibe::containerd
