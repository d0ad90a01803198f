#include "images/images.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "images/pull.h"

namespace vibe::images {
namespace {

constexpr int64_t kMaxDocument = 8 << 20;

absl::StatusOr<oci::Reference> Parse(const std::string& reference) {
  auto parsed = oci::ParseReference(reference);
  return parsed.ok() ? parsed : WithReason(parsed.status(), Reason::kImagePullFailed);
}

std::string AdviceFor(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kNotFound:
      return "check the image's name and tag in vibe.yaml";
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return "check the network connection and that the registry is up, then try again: what was "
             "fetched already is kept";
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return "the registry does not give this image to everybody: use a public one";
    case absl::StatusCode::kDataLoss:
      return "what arrived is not what the image's author published: try again, and if it stays "
             "so, "
             "tell who runs the registry";
    default:
      return "";
  }
}

absl::Status Explain(absl::Status status) {
  if (status.ok() || absl::IsCancelled(status)) {
    return status;
  }
  const std::string advice = AdviceFor(status.code());
  if (!advice.empty()) {
    status = WithAdvice(std::move(status), advice);
  }
  return WithReason(std::move(status), Reason::kImagePullFailed);
}

}  // namespace

ImageStore::ImageStore(containerd::Client& client, oci::Platform platform)
    : client_(client), platform_(std::move(platform)) {}

absl::Status ImageStore::EnsureImage(const std::string& ns, const std::string& reference,
                                     const SourceOpener& open_source,
                                     const ProgressSink& progress) {
  VIBE_ASSIGN_OR_RETURN(const oci::Reference parsed, Parse(reference));
  VIBE_ASSIGN_OR_RETURN(
      const KeyLocks::Hold hold,
      image_locks_.Lock(absl::StrCat(ns, " ", parsed.ToString()), [&]() -> absl::Status {
        return progress == nullptr ? absl::OkStatus() : progress(PullProgress{});
      }));
  VIBE_RETURN_IF_ERROR(client_.CreateNamespace(ns, {}));
  const auto present = Inspect(ns, reference);
  if (present.ok()) {
    VIBE_ASSIGN_OR_RETURN(const bool unpacked, client_.HasSnapshot(ns, present->chain_id));
    if (unpacked) {
      return absl::OkStatus();
    }
  } else if (absl::IsUnavailable(present.status())) {
    return present.status();
  }
  return Explain(Pull(client_, blob_locks_, ns, parsed, open_source, progress).Run(platform_));
}

absl::StatusOr<InspectedImage> ImageStore::Inspect(const std::string& ns,
                                                   const std::string& reference) {
  VIBE_ASSIGN_OR_RETURN(const oci::Reference parsed, Parse(reference));
  VIBE_ASSIGN_OR_RETURN(const containerd::Image image, client_.GetImage(ns, parsed.ToString()));
  std::string digest = image.target_digest;
  if (oci::IsIndex(image.target_media_type)) {
    VIBE_ASSIGN_OR_RETURN(const std::string index, client_.ReadBlob(ns, digest, kMaxDocument));
    VIBE_ASSIGN_OR_RETURN(const oci::Descriptor selected, oci::SelectPlatform(index, platform_));
    digest = selected.digest;
  }
  VIBE_ASSIGN_OR_RETURN(const std::string manifest_json,
                        client_.ReadBlob(ns, digest, kMaxDocument));
  VIBE_ASSIGN_OR_RETURN(const oci::ImageManifest manifest, oci::ParseManifest(manifest_json));
  VIBE_ASSIGN_OR_RETURN(const std::string config_json,
                        client_.ReadBlob(ns, manifest.config.digest, kMaxDocument));
  InspectedImage result;
  VIBE_ASSIGN_OR_RETURN(result.config, oci::ParseConfig(config_json));
  if (result.config.diff_ids.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(parsed.ToString(), " has no layers"));
  }
  result.chain_id = oci::ChainIds(result.config.diff_ids).back();
  return result;
}

}  // namespace vibe::images
