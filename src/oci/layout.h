// An OCI image layout (image-spec 1.0, "oci-layout" + "index.json" + "blobs/") in a folder. Nothing
// outside the folder is read: symlinks are refused.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "oci/image_source.h"
#include "oci/reference.h"

namespace vibe::oci {

// The source for `reference`, or NotFound when no layout under `directory` holds it. `directory` is
// itself a layout, or a folder of layouts. An entry matches when its annotation
// org.opencontainers.image.ref.name is the reference as written or normalized, or is a bare tag and
// the layout's folder name is the repository's last part.
absl::StatusOr<std::unique_ptr<ImageSource>> OpenLayout(const std::filesystem::path& directory,
                                                        const Reference& reference);

}  // namespace vibe::oci
