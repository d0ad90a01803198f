// The images of all projects in containerd: brought in from a source, unpacked, looked up, removed.
// One containerd namespace per project; blobs are stored once for all of them.
//
// Thread-safe. Two calls for the same image in the same namespace wait for each other, and a blob
// is fetched by one call at a time: the others find it there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "containerd/client.h"
#include "images/key_locks.h"
#include "oci/image.h"
#include "oci/image_source.h"
#include "oci/reference.h"

namespace vibe::images {

struct PullProgress {
  enum class Phase { kFetch, kUnpack };
  Phase phase = Phase::kFetch;
  int64_t done = 0;   // bytes, of the layers as they are in the image
  int64_t total = 0;  // bytes
};

// Called from one thread at a time, at most every 100 ms and at the end of a phase. An error ends
// the pull and is returned as it is.
using ProgressSink = std::function<absl::Status(const PullProgress&)>;

// Opens where the image comes from. Called from several threads at once: each object serves one
// thread.
using SourceOpener =
    std::function<absl::StatusOr<std::unique_ptr<oci::ImageSource>>(const oci::Reference&)>;

struct InspectedImage {
  oci::ImageConfig config;
  std::string chain_id;  // the snapshot to put a writable one on
};

class ImageStore {
 public:
  // `client` outlives this.
  explicit ImageStore(containerd::Client& client, oci::Platform platform = oci::HostPlatform());

  // Makes the image be there, unpacked, in the namespace (which is created when it is missing). One
  // that is there already is not looked for again: no source is opened. What an attempt fetched
  // before it failed is kept for a day and used by the next. Errors: IMAGE_PULL_FAILED with the
  // source's code; ResourceExhausted with DISK_LOW; Cancelled and other errors of `progress`;
  // InvalidArgument for a reference that is none.
  absl::Status EnsureImage(const std::string& ns, const std::string& reference,
                           const SourceOpener& open_source, const ProgressSink& progress);

  // NotFound when the namespace does not have it.
  absl::StatusOr<InspectedImage> Inspect(const std::string& ns, const std::string& reference);

  // Ends every process of the namespace with SIGKILL and removes all that is in it, then itself.
  // Can be repeated after an error or a crash half way; a namespace that is not there is a success.
  absl::Status RemoveNamespace(const std::string& ns);

 private:
  containerd::Client& client_;
  const oci::Platform platform_;
  KeyLocks image_locks_;  // by namespace and name
  KeyLocks blob_locks_;   // by digest
};

}  // namespace vibe::images
