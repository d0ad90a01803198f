// One pull of one image: from its source into the content store, then unpacked. Inside this folder
// only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "containerd/client.h"
#include "images/images.h"
#include "images/key_locks.h"
#include "oci/image.h"
#include "oci/image_source.h"

namespace vibe::images {

// What is known of an image once its documents are read.
struct Documents {
  oci::Descriptor target;  // what the name means: the index when there is one
  std::string index_json;  // empty without an index
  oci::Descriptor manifest;
  std::string manifest_json;
  std::string config_json;
  std::vector<oci::Descriptor> layers;  // lowest first
  oci::Descriptor config;
  std::vector<std::string> diff_ids;   // one per layer
  std::vector<std::string> chain_ids;  // one per layer
};

absl::StatusOr<Documents> ReadDocuments(oci::ImageSource& source, const oci::Platform& platform);

// Reports at most every 100 ms, from any thread. Thread-safe.
class ProgressMeter {
 public:
  ProgressMeter(PullProgress::Phase phase, int64_t total, const ProgressSink& sink)
      : sink_(sink), progress_{.phase = phase, .done = 0, .total = total} {}

  absl::Status Add(int64_t bytes);
  absl::Status Finish();  // all is done
  // From now on Add answers with this error: ends transfers that are under way.
  void Stop(const absl::Status& error);

 private:
  absl::Status Report() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ProgressSink& sink_;
  absl::Mutex mutex_;
  PullProgress progress_ ABSL_GUARDED_BY(mutex_);
  absl::Time reported_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

// Used by one thread; makes threads of its own for the layers.
class Pull {
 public:
  Pull(containerd::Client& client, KeyLocks& blob_locks, std::string ns, oci::Reference reference,
       const SourceOpener& open_source, const ProgressSink& progress)
      : client_(client),
        blob_locks_(blob_locks),
        ns_(std::move(ns)),
        reference_(std::move(reference)),
        open_source_(open_source),
        progress_(progress) {}

  // All of it; the image record comes last, so that an image that is listed is whole.
  absl::Status Run(const oci::Platform& platform);

 private:
  absl::Status RunUnderLease(const Documents& documents);
  absl::Status WriteDocuments(const Documents& documents);
  absl::Status FetchLayers(const Documents& documents);
  absl::Status FetchLayer(oci::ImageSource& source, const oci::Descriptor& layer,
                          ProgressMeter& meter);
  absl::Status FetchOnce(oci::ImageSource& source, const oci::Descriptor& layer,
                         ProgressMeter& meter, bool& resumed);
  absl::StatusOr<std::unique_ptr<containerd::BlobWriter>> OpenWriter(const oci::Descriptor& layer,
                                                                     ProgressMeter& meter);
  absl::Status Unpack(const Documents& documents);
  absl::Status UnpackLayer(const Documents& documents, size_t index);

  containerd::Client& client_;
  KeyLocks& blob_locks_;
  const std::string ns_;
  const oci::Reference reference_;
  const SourceOpener& open_source_;
  const ProgressSink& progress_;
  std::string lease_;
};

}  // namespace vibe::images
