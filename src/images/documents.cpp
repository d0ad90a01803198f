#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "images/pull.h"

namespace vibe::images {
namespace {

// The mount options of an overlay are one page; containerd shortens the paths so that this many
// fit.
constexpr size_t kMaxLayers = 127;

absl::Status CheckLayers(const Documents& documents) {
  if (documents.layers.empty() || documents.layers.size() > kMaxLayers) {
    return absl::InvalidArgumentError(absl::StrCat("the image has ", documents.layers.size(),
                                                   " layers; it must have 1 to ", kMaxLayers));
  }
  if (documents.layers.size() != documents.diff_ids.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the image's manifest has ", documents.layers.size(),
                     " layers but its config has ", documents.diff_ids.size()));
  }
  int64_t total = 0;
  for (const oci::Descriptor& layer : documents.layers) {
    if (layer.size < 0 || layer.size > std::numeric_limits<int64_t>::max() - total) {
      return absl::InvalidArgumentError("the image's manifest has impossible layer sizes");
    }
    total += layer.size;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Documents> ReadDocuments(oci::ImageSource& source, const oci::Platform& platform) {
  Documents documents;
  VIBE_ASSIGN_OR_RETURN(documents.target, source.Resolve());
  documents.manifest = documents.target;
  if (oci::IsIndex(documents.target.media_type)) {
    VIBE_ASSIGN_OR_RETURN(documents.index_json, source.ReadDocument(documents.target));
    VIBE_ASSIGN_OR_RETURN(documents.manifest, oci::SelectPlatform(documents.index_json, platform));
  }
  if (!oci::IsManifest(documents.manifest.media_type)) {
    return absl::InvalidArgumentError(
        absl::StrCat("it is no container image but '", documents.manifest.media_type, "'"));
  }
  VIBE_ASSIGN_OR_RETURN(documents.manifest_json, source.ReadDocument(documents.manifest));
  VIBE_ASSIGN_OR_RETURN(oci::ImageManifest manifest, oci::ParseManifest(documents.manifest_json));
  documents.config = manifest.config;
  documents.layers = std::move(manifest.layers);
  VIBE_ASSIGN_OR_RETURN(documents.config_json, source.ReadDocument(documents.config));
  VIBE_ASSIGN_OR_RETURN(oci::ImageConfig config, oci::ParseConfig(documents.config_json));
  documents.diff_ids = std::move(config.diff_ids);
  VIBE_RETURN_IF_ERROR(CheckLayers(documents));
  documents.chain_ids = oci::ChainIds(documents.diff_ids);
  return documents;
}

}  // namespace vibe::images
