// The writing half of the content store. Inside this folder only.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "containerd/call.h"

namespace vibe::containerd {

struct Ingest {
  std::string ns, lease;
  std::string ref;     // names the partial ingest
  std::string digest;  // of the whole blob
  int64_t size = 0;
};

// `client` outlives the writer. AlreadyExists when the namespace has the blob; the lease holds it
// then.
absl::StatusOr<std::unique_ptr<BlobWriter>> OpenIngest(Client& client,
                                                       std::shared_ptr<grpc::Channel> channel,
                                                       Ingest ingest);

}  // namespace vibe::containerd
