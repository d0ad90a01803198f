// How each call to containerd is made: metadata, deadline, bridging of a restart, errors. Inside
// this folder only.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "containerd/client.h"

namespace vibe::containerd {

// How long a call waits for a containerd that is not there: a restart takes about a second.
inline constexpr absl::Duration kBridge = absl::Seconds(3);
inline constexpr absl::Duration kDefaultTimeout = absl::Seconds(30);

struct Call {
  absl::string_view name;  // "tasks.Kill": the context of errors
  std::string ns = {};     // empty: the call is in no namespace
  std::string lease = {};
  absl::Duration timeout = kDefaultTimeout;
  // Whether doing it twice is the same as doing it once, so that it can be repeated when containerd
  // went away before it answered. Otherwise it is sent once, to a containerd that was seen to
  // answer just before.
  bool repeatable = true;
};

// A name that may travel as gRPC metadata and that containerd takes as an identifier. gRPC aborts
// the process on metadata with control characters.
absl::Status CheckIdentifier(absl::string_view what, absl::string_view text);

// containerd's answer as ours: the call's name as context, a full disk as DISK_LOW.
absl::Status ToStatus(const grpc::Status& status, absl::string_view call);

// For gRPC, at most a year from now.
std::chrono::system_clock::time_point ToDeadline(absl::Time deadline);

// Fields: namespace and lease as metadata, the deadline. InvalidArgument for names that cannot be
// sent.
absl::StatusOr<std::unique_ptr<grpc::ClientContext>> MakeContext(const Call& call,
                                                                 absl::Time deadline);

// Thread-safe.
struct Connection {
  std::shared_ptr<grpc::Channel> channel;

  // Makes the call with a context of its own; again, for up to kBridge, while containerd is not
  // there.
  absl::Status Run(const Call& call,
                   const std::function<grpc::Status(grpc::ClientContext*)>& send) const;

  // Returns when containerd answers; Unavailable after kBridge.
  absl::Status AwaitService() const;
};

struct Client::Impl : Connection {
  Options options;
};

}  // namespace vibe::containerd
