// Statuses over the wire: absl::Status with our details, as a grpc::Status whose details hold a
// google.rpc.Status with one google.rpc.ErrorInfo (domain "vibe.app"), and back. Pure and
// thread-safe.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace vibe::rpc {

grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace vibe::rpc
