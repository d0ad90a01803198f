// Where an image's documents and blobs come from: a registry (oci/registry.h) or an OCI layout in a
// folder (oci/layout.h). One object serves one pull on one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "oci/image.h"

namespace vibe::oci {

// Takes the next bytes of a blob; an error from it ends the transfer and is returned as it is.
using ByteSink = std::function<absl::Status(absl::string_view bytes)>;

class ImageSource {
 public:
  virtual ~ImageSource() = default;

  // What the image's name means now: the descriptor of an index or a manifest.
  virtual absl::StatusOr<Descriptor> Resolve() = 0;

  // A whole index, manifest or config; at most 8 MiB; its digest is checked here.
  virtual absl::StatusOr<std::string> ReadDocument(const Descriptor& descriptor) = 0;

  // The bytes of a layer from `offset` on. Not checked here: the content store does that on commit.
  // Exactly size - offset bytes reach the sink, or an error comes back.
  virtual absl::Status ReadBlob(const Descriptor& descriptor, int64_t offset,
                                const ByteSink& sink) = 0;
};

}  // namespace vibe::oci
