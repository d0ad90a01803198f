#include "containerd/client.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "containerd/call.h"
#include "github.com/containerd/containerd/api/services/leases/v1/leases.grpc.pb.h"
#include "github.com/containerd/containerd/api/services/namespaces/v1/namespace.grpc.pb.h"
#include "github.com/containerd/containerd/api/services/version/v1/version.grpc.pb.h"

namespace vibe::containerd {
namespace {

namespace leases = ::containerd::services::leases::v1;
namespace namespaces = ::containerd::services::namespaces::v1;
namespace version = ::containerd::services::version::v1;

constexpr int kMaxMessage = 16 << 20;  // what containerd takes and sends
// A containerd that was restarted is found again at once.
constexpr int kFirstBackoffMs = 50;
constexpr int kMaxBackoffMs = 500;
// From the connection to containerd's first word, on a busy machine.
constexpr int kConnectTimeoutMs = 2000;
// How long a probe gives to a connection that is not there yet.
constexpr absl::Duration kProbeConnect = absl::Milliseconds(100);
constexpr absl::Duration kCollectTimeout = absl::Minutes(10);  // deletes whole trees of files

std::shared_ptr<grpc::Channel> Connect(const std::string& socket_path) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessage);
  arguments.SetMaxSendMessageSize(kMaxMessage);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstBackoffMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxBackoffMs);
  // Two clients of one process must not share a connection and its backoff.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel("unix:" + socket_path, grpc::InsecureChannelCredentials(),
                                   arguments);
}

}  // namespace

Client::Client(Options options) : impl_(std::make_unique<Impl>()) {
  impl_->channel = Connect(options.socket_path);
  impl_->options = std::move(options);
}

Client::~Client() = default;

const std::string& Client::snapshotter() const {
  return impl_->options.snapshotter;
}

absl::StatusOr<std::string> Client::Version() {
  const auto stub = version::Version::NewStub(impl_->channel);
  version::VersionResponse response;
  VIBE_RETURN_IF_ERROR(impl_->Run({.name = "version.Version"}, [&](grpc::ClientContext* context) {
    return stub->Version(context, {}, &response);
  }));
  return response.version();
}

absl::StatusOr<std::string> Client::Probe(absl::Duration timeout) {
  const auto stub = version::Version::NewStub(impl_->channel);
  const absl::Time deadline = absl::Now() + timeout;
  impl_->channel->WaitForConnected(ToDeadline(std::min(deadline, absl::Now() + kProbeConnect)));
  VIBE_ASSIGN_OR_RETURN(const auto context, MakeContext({.name = "version.Version"}, deadline));
  version::VersionResponse response;
  VIBE_RETURN_IF_ERROR(ToStatus(stub->Version(context.get(), {}, &response), "version.Version"));
  return response.version();
}

absl::Status Client::CreateNamespace(const std::string& ns, const Labels& labels) {
  VIBE_RETURN_IF_ERROR(CheckIdentifier("namespace", ns));
  const auto stub = namespaces::Namespaces::NewStub(impl_->channel);
  namespaces::CreateNamespaceRequest request;
  request.mutable_namespace_()->set_name(ns);
  request.mutable_namespace_()->mutable_labels()->insert(labels.begin(), labels.end());
  namespaces::CreateNamespaceResponse response;
  const absl::Status status = impl_->Run(
      {.name = "namespaces.Create", .ns = ns},  // of the event that containerd publishes
      [&](grpc::ClientContext* context) { return stub->Create(context, request, &response); });
  return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

absl::Status Client::DeleteNamespace(const std::string& ns) {
  VIBE_RETURN_IF_ERROR(CheckIdentifier("namespace", ns));
  const auto stub = namespaces::Namespaces::NewStub(impl_->channel);
  namespaces::DeleteNamespaceRequest request;
  request.set_name(ns);
  google::protobuf::Empty response;
  const absl::Status status = impl_->Run(
      {.name = "namespaces.Delete", .ns = ns},  // of the event that containerd publishes
      [&](grpc::ClientContext* context) { return stub->Delete(context, request, &response); });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::StatusOr<std::vector<std::string>> Client::ListNamespaces() {
  const auto stub = namespaces::Namespaces::NewStub(impl_->channel);
  namespaces::ListNamespacesResponse response;
  VIBE_RETURN_IF_ERROR(impl_->Run({.name = "namespaces.List"}, [&](grpc::ClientContext* context) {
    return stub->List(context, {}, &response);
  }));
  std::vector<std::string> names;
  for (const auto& entry : response.namespaces()) {
    names.push_back(entry.name());
  }
  return names;
}

absl::StatusOr<std::string> Client::CreateLease(const std::string& ns, const std::string& id,
                                                absl::Duration expires_after) {
  VIBE_RETURN_IF_ERROR(CheckIdentifier("lease", id));
  const auto stub = leases::Leases::NewStub(impl_->channel);
  leases::CreateRequest request;
  request.set_id(id);
  (*request.mutable_labels())["containerd.io/gc.expire"] =
      absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now() + expires_after, absl::UTCTimeZone());
  leases::CreateResponse response;
  VIBE_RETURN_IF_ERROR(impl_->Run(
      {.name = "leases.Create", .ns = ns, .repeatable = false},
      [&](grpc::ClientContext* context) { return stub->Create(context, request, &response); }));
  return response.lease().id();
}

absl::Status Client::DeleteLease(const std::string& ns, const std::string& id,
                                 bool collect_garbage_now) {
  const auto stub = leases::Leases::NewStub(impl_->channel);
  leases::DeleteRequest request;
  request.set_id(id);
  request.set_sync(collect_garbage_now);
  google::protobuf::Empty response;
  const absl::Status status = impl_->Run(
      {.name = "leases.Delete", .ns = ns, .timeout = kCollectTimeout},
      [&](grpc::ClientContext* context) { return stub->Delete(context, request, &response); });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::StatusOr<std::vector<std::string>> Client::ListLeases(const std::string& ns) {
  const auto stub = leases::Leases::NewStub(impl_->channel);
  leases::ListResponse response;
  VIBE_RETURN_IF_ERROR(
      impl_->Run({.name = "leases.List", .ns = ns},
                 [&](grpc::ClientContext* context) { return stub->List(context, {}, &response); }));
  std::vector<std::string> ids;
  for (const auto& lease : response.leases()) {
    ids.push_back(lease.id());
  }
  return ids;
}

}  // namespace vibe::containerd
