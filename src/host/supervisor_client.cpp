#include "host/supervisor_client.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>
#include <poll.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "rpc/status.h"
#include "vibe/v1/supervisor.grpc.pb.h"

namespace vibe::host {
namespace {

constexpr absl::Duration kQuick = absl::Seconds(10);
// How long a supervisor that died may take to come back before callers hear of it.
constexpr absl::Duration kPatience = absl::Seconds(10);
constexpr absl::Duration kRetryPause = absl::Milliseconds(100);
// It may save the version that is replaced, with the app's own hooks and a checkpoint.
constexpr absl::Duration kEnsureDeadline = absl::Minutes(15);
// Stopping every service of a project, each with the default timeout.
constexpr absl::Duration kDeleteDeadline = absl::Minutes(15);
// A subscription is renewed now and then, so that an event that was missed does no lasting harm.
constexpr absl::Duration kEventsTerm = absl::Seconds(10);
// Gigabytes may wait to be written, on a slow disk.
constexpr absl::Duration kSyncDeadline = absl::Minutes(1);
constexpr int kMaxMessageBytes = 64 << 20;  // an index of 100000 files

void SetDeadline(grpc::ClientContext& context, absl::Duration duration) {
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(duration));
}

// Whether the failure is the connection's and not an answer of the supervisor.
bool ConnectionBroke(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE && status.error_details().empty();
}

absl::Status Broken(const absl::Status& status) {
  return WithAdvice(
      absl::UnavailableError(absl::StrCat("the machine's supervisor does not answer (",
                                          std::string(status.message()), ")")),
      "`vibe machine logs` may say why; `vibe machine stop` and `vibe machine start` begin anew");
}

}  // namespace

struct SupervisorClient::Channel {
  UniqueFd watch;  // the same socket, to see whether the peer is still there
  std::unique_ptr<v1::Supervisor::Stub> stub;

  bool PeerIsThere() const {
    pollfd entry{watch.get(), 0, 0};
    return ::poll(&entry, 1, 0) == 0;
  }
};

SupervisorClient::SupervisorClient(Dial dial) : dial_(std::move(dial)) {}
SupervisorClient::~SupervisorClient() = default;

absl::StatusOr<std::shared_ptr<SupervisorClient::Channel>> SupervisorClient::Connect() {
  {
    const absl::MutexLock lock(&mutex_);
    if (channel_ != nullptr && channel_->PeerIsThere()) {
      return channel_;
    }
    channel_.reset();
  }
  VIBE_ASSIGN_OR_RETURN(UniqueFd fd, dial_());
  auto channel = std::make_shared<Channel>();
  channel->watch.reset(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (!channel->watch.valid() || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return ErrnoError(errno, "the machine's connection");
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  channel->stub = v1::Supervisor::NewStub(
      grpc::CreateCustomInsecureChannelFromFd("vibe-supervisor", fd.release(), arguments));
  const absl::MutexLock lock(&mutex_);
  // Two threads may have dialled at once; one connection is enough for both.
  if (channel_ == nullptr || !channel_->PeerIsThere()) {
    channel_ = std::move(channel);
  }
  return channel_;
}

void SupervisorClient::Drop(const std::shared_ptr<Channel>& channel) {
  const absl::MutexLock lock(&mutex_);
  if (channel_ == channel) {
    channel_.reset();
  }
}

// `call` takes the stub, a new context and a flag that it sets when the call may not be made again.
template <typename Call>
absl::Status SupervisorClient::Try(const Call& call, absl::Duration patience,
                                   Cancellation* cancel) {
  const absl::Time give_up = absl::Now() + patience;
  while (true) {
    absl::Status broke;
    bool final = false;
    if (const auto channel = Connect(); !channel.ok()) {
      broke = channel.status();
    } else {
      grpc::ClientContext context;
      std::optional<Cancellation::Registration> registration;
      if (cancel != nullptr) {
        registration.emplace(*cancel, [&context] { context.TryCancel(); });
      }
      const grpc::Status status = call(*(*channel)->stub, context, final);
      if (cancel != nullptr) {
        VIBE_RETURN_IF_ERROR(status.ok() ? absl::OkStatus() : cancel->Check());
      }
      if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED && !final) {
        Drop(*channel);  // a supervisor that hangs is given a new connection, not a queue
      }
      if (!ConnectionBroke(status)) {
        return rpc::FromGrpc(status);
      }
      Drop(*channel);
      broke = rpc::FromGrpc(status);
    }
    if (final || absl::Now() + kRetryPause > give_up) {
      return Broken(broke);
    }
    if (cancel == nullptr) {
      absl::SleepFor(kRetryPause);
    } else if (!cancel->SleepFor(kRetryPause)) {
      return cancel->Check();
    }
  }
}

template <typename Response, typename Request, typename Method>
absl::StatusOr<Response> SupervisorClient::Unary(Method method, const Request& request,
                                                 absl::Duration deadline, absl::Duration patience,
                                                 Cancellation* cancel) {
  Response response;
  VIBE_RETURN_IF_ERROR(Try(
      [&](v1::Supervisor::Stub& stub, grpc::ClientContext& context, bool&) {
        SetDeadline(context, deadline);
        return (stub.*method)(&context, request, &response);
      },
      patience, cancel));
  return response;
}

// The one message of a stream that is no progress: its result.
template <typename Response, typename Request, typename Method>
absl::StatusOr<Response> SupervisorClient::LastOf(Method method, const Request& request,
                                                  const ProgressSink& progress,
                                                  Cancellation& cancel) {
  std::optional<Response> last;
  VIBE_RETURN_IF_ERROR(Try(
      [&](v1::Supervisor::Stub& stub, grpc::ClientContext& context, bool& final) {
        auto reader = (stub.*method)(&context, request);
        Response response;
        while (reader->Read(&response)) {
          final = true;
          if (response.has_progress()) {
            progress(response.progress());
          } else {
            last = response;
          }
        }
        return reader->Finish();
      },
      kPatience, &cancel));
  if (!last) {
    return absl::InternalError("the machine's supervisor ended the call without a result");
  }
  return *std::move(last);
}

template <typename Response, typename Request, typename Method>
absl::StatusOr<v1::Project> SupervisorClient::ProjectStream(Method method, const Request& request,
                                                            const ProgressSink& progress,
                                                            Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(const Response response,
                        LastOf<Response>(method, request, progress, cancel));
  return response.project();
}

absl::StatusOr<v1::HealthResponse> SupervisorClient::Health() {
  VIBE_ASSIGN_OR_RETURN(
      v1::HealthResponse health,
      Unary<v1::HealthResponse>(&v1::Supervisor::Stub::Health, v1::HealthRequest(),
                                absl::Seconds(2), absl::ZeroDuration(), nullptr));
  const absl::MutexLock lock(&mutex_);
  health_ = health;
  return health;
}

std::optional<v1::HealthResponse> SupervisorClient::LastHealth() const {
  const absl::MutexLock lock(&mutex_);
  return health_;
}

absl::StatusOr<v1::DiskUsageResponse> SupervisorClient::DiskUsage() {
  return Unary<v1::DiskUsageResponse>(&v1::Supervisor::Stub::DiskUsage, v1::DiskUsageRequest(),
                                      kQuick, absl::ZeroDuration(), nullptr);
}

absl::StatusOr<absl::Duration> SupervisorClient::SyncClock() {
  v1::SyncClockResponse response;
  VIBE_RETURN_IF_ERROR(Try(
      [&](v1::Supervisor::Stub& stub, grpc::ClientContext& context, bool&) {
        SetDeadline(context, absl::Seconds(2));
        v1::SyncClockRequest request;  // the time of the call, not of what came before it
        const timespec now = absl::ToTimespec(absl::Now());
        request.mutable_time()->set_seconds(now.tv_sec);
        request.mutable_time()->set_nanos(static_cast<int32_t>(now.tv_nsec));
        return stub.SyncClock(&context, request, &response);
      },
      absl::ZeroDuration(), nullptr));
  return absl::Nanoseconds(response.offset_nanos());
}

absl::Status SupervisorClient::SetHostNetwork(const std::optional<v1::HostNetwork>& network) {
  v1::SetHostNetworkRequest request;
  if (network) {
    *request.mutable_network() = *network;
  }
  return Unary<v1::SetHostNetworkResponse>(&v1::Supervisor::Stub::SetHostNetwork, request, kQuick,
                                           absl::ZeroDuration(), nullptr)
      .status();
}

absl::Status SupervisorClient::SyncDisk() {
  return Unary<v1::SyncDiskResponse>(&v1::Supervisor::Stub::SyncDisk, v1::SyncDiskRequest(),
                                     kSyncDeadline, absl::ZeroDuration(), nullptr)
      .status();
}

absl::Status SupervisorClient::Shutdown() {
  return Unary<v1::ShutdownResponse>(&v1::Supervisor::Stub::Shutdown, v1::ShutdownRequest(),
                                     absl::Minutes(2), absl::ZeroDuration(), nullptr)
      .status();
}

absl::StatusOr<std::vector<v1::Project>> SupervisorClient::ListProjects(Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(
      const auto response,
      Unary<v1::ListProjectsResponse>(&v1::Supervisor::Stub::ListProjects,
                                      v1::ListProjectsRequest(), kQuick, kPatience, &cancel));
  return std::vector<v1::Project>(response.projects().begin(), response.projects().end());
}

absl::StatusOr<v1::Project> SupervisorClient::GetProject(const std::string& id,
                                                         Cancellation& cancel) {
  v1::GetProjectStatusRequest request;
  request.set_id(id);
  VIBE_ASSIGN_OR_RETURN(const auto response,
                        Unary<v1::GetProjectStatusResponse>(&v1::Supervisor::Stub::GetProjectStatus,
                                                            request, kQuick, kPatience, &cancel));
  return response.project();
}

absl::StatusOr<v1::Project> SupervisorClient::EnsureProject(const v1::EnsureProjectRequest& request,
                                                            Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(const auto response, Unary<v1::EnsureProjectResponse>(
                                                 &v1::Supervisor::Stub::EnsureProject, request,
                                                 kEnsureDeadline, kPatience, &cancel));
  return response.project();
}

absl::StatusOr<v1::Project> SupervisorClient::SetGrants(const std::string& id,
                                                        const v1::Grants& grants,
                                                        Cancellation& cancel) {
  v1::SetGrantsRequest request;
  request.set_id(id);
  *request.mutable_grants() = grants;
  VIBE_ASSIGN_OR_RETURN(const auto response,
                        Unary<v1::SetGrantsResponse>(&v1::Supervisor::Stub::SetGrants, request,
                                                     kEnsureDeadline, kPatience, &cancel));
  return response.project();
}

absl::Status SupervisorClient::TrySetGrants(const std::string& id, const v1::Grants& grants) {
  return Try(
      [&](v1::Supervisor::Stub& stub, grpc::ClientContext& context, bool& final) {
        final = true;  // a deadline that passes says nothing about the connection
        SetDeadline(context, absl::Seconds(2));
        v1::SetGrantsRequest request;
        request.set_id(id);
        *request.mutable_grants() = grants;
        v1::SetGrantsResponse response;
        return stub.SetGrants(&context, request, &response);
      },
      absl::ZeroDuration(), nullptr);
}

absl::Status SupervisorClient::DeleteProject(const std::string& id, bool delete_data,
                                             Cancellation& cancel) {
  v1::DeleteProjectRuntimeRequest request;
  request.set_id(id);
  request.set_delete_data(delete_data);
  return Unary<v1::DeleteProjectRuntimeResponse>(&v1::Supervisor::Stub::DeleteProjectRuntime,
                                                 request, kDeleteDeadline, kPatience, &cancel)
      .status();
}

absl::StatusOr<v1::Project> SupervisorClient::OpenProject(const std::string& id,
                                                          const ProgressSink& progress,
                                                          Cancellation& cancel) {
  v1::OpenProjectRequest request;
  request.set_id(id);
  return ProjectStream<v1::OpenProjectResponse>(&v1::Supervisor::Stub::OpenProject, request,
                                                progress, cancel);
}

absl::StatusOr<v1::Project> SupervisorClient::StartProject(
    const std::string& id, const std::map<std::string, std::string>& secrets,
    const ProgressSink& progress, Cancellation& cancel) {
  v1::StartProjectRequest request;
  request.set_id(id);
  request.mutable_secrets()->insert(secrets.begin(), secrets.end());
  return ProjectStream<v1::StartProjectResponse>(&v1::Supervisor::Stub::StartProject, request,
                                                 progress, cancel);
}

absl::StatusOr<v1::Project> SupervisorClient::StopProject(const std::string& id,
                                                          std::optional<uint32_t> timeout_seconds,
                                                          const ProgressSink& progress,
                                                          Cancellation& cancel) {
  v1::StopProjectRequest request;
  request.set_id(id);
  if (timeout_seconds) {
    request.set_timeout_seconds(*timeout_seconds);
  }
  return ProjectStream<v1::StopProjectResponse>(&v1::Supervisor::Stub::StopProject, request,
                                                progress, cancel);
}

absl::StatusOr<v1::Snapshot> SupervisorClient::SaveSnapshot(const v1::SaveSnapshotRequest& request,
                                                            const ProgressSink& progress,
                                                            Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(const auto response,
                        LastOf<v1::SaveSnapshotResponse>(&v1::Supervisor::Stub::SaveSnapshot,
                                                         request, progress, cancel));
  return response.snapshot();
}

absl::StatusOr<v1::RestoreSnapshotResponse> SupervisorClient::RestoreSnapshot(
    const v1::RestoreSnapshotRequest& request, const ProgressSink& progress, Cancellation& cancel) {
  return LastOf<v1::RestoreSnapshotResponse>(&v1::Supervisor::Stub::RestoreSnapshot, request,
                                             progress, cancel);
}

absl::StatusOr<std::vector<v1::Snapshot>> SupervisorClient::ListSnapshots(const std::string& id,
                                                                          Cancellation& cancel) {
  v1::ListSnapshotsRequest request;
  request.set_id(id);
  VIBE_ASSIGN_OR_RETURN(const auto response,
                        Unary<v1::ListSnapshotsResponse>(&v1::Supervisor::Stub::ListSnapshots,
                                                         request, kQuick, kPatience, &cancel));
  return std::vector<v1::Snapshot>(response.snapshots().begin(), response.snapshots().end());
}

absl::Status SupervisorClient::DeleteSnapshot(const std::string& id, const std::string& snapshot_id,
                                              Cancellation& cancel) {
  v1::DeleteSnapshotRequest request;
  request.set_id(id);
  request.set_snapshot_id(snapshot_id);
  return Unary<v1::DeleteSnapshotResponse>(&v1::Supervisor::Stub::DeleteSnapshot, request,
                                           kDeleteDeadline, absl::ZeroDuration(), &cancel)
      .status();
}

absl::StatusOr<v1::Project> SupervisorClient::DuplicateProject(
    const v1::DuplicateProjectRequest& request, const ProgressSink& progress,
    Cancellation& cancel) {
  return ProjectStream<v1::DuplicateProjectResponse>(&v1::Supervisor::Stub::DuplicateProject,
                                                     request, progress, cancel);
}

absl::StatusOr<std::string> SupervisorClient::ImportPackage(const v1::PackageIndex& index,
                                                            const ByteSource& bytes,
                                                            Cancellation& cancel) {
  std::string digest;
  absl::Status source;
  const absl::Status status = Try(
      [&](v1::Supervisor::Stub& stub, grpc::ClientContext& context, bool& final) {
        auto stream = stub.ImportPackage(&context);
        v1::ImportPackageRequest request;
        *request.mutable_index() = index;
        v1::ImportPackageResponse answer;
        if (!stream->Write(request) || !stream->Read(&answer)) {
          stream->WritesDone();
          return stream->Finish();
        }
        final = true;
        // The machine reports while it receives: without a reader both would wait for each other.
        std::thread reader;
        if (answer.send_files()) {
          reader = std::thread([&] {
            v1::ImportPackageResponse response;
            while (stream->Read(&response)) {
              answer = response;
            }
          });
          while (true) {
            absl::StatusOr<std::string> chunk = bytes();
            if (!chunk.ok()) {
              source = chunk.status();
              context.TryCancel();
              break;
            }
            v1::ImportPackageRequest next;
            next.set_chunk(*std::move(chunk));
            if (next.chunk().empty() || !stream->Write(next)) {
              break;
            }
          }
        }
        stream->WritesDone();
        if (reader.joinable()) {
          reader.join();
        } else {
          while (stream->Read(&answer)) {
          }
        }
        digest = answer.package_digest();
        return stream->Finish();
      },
      kPatience, &cancel);
  VIBE_RETURN_IF_ERROR(source);
  VIBE_RETURN_IF_ERROR(status);
  if (digest.empty()) {
    return absl::InternalError("the machine's supervisor ended the import without a digest");
  }
  return digest;
}

absl::Status SupervisorClient::Logs(const v1::GetProjectLogsRequest& request, const LogSink& sink,
                                    Cancellation& cancel) {
  absl::Status sink_status;
  const absl::Status status = Try(
      [&](v1::Supervisor::Stub& stub, grpc::ClientContext& context, bool& final) {
        auto reader = stub.GetProjectLogs(&context, request);
        v1::GetProjectLogsResponse response;
        while (reader->Read(&response)) {
          final = true;
          for (const v1::LogLine& line : response.lines()) {
            sink_status = sink(line);
            if (!sink_status.ok()) {
              context.TryCancel();
              return reader->Finish();
            }
          }
        }
        return reader->Finish();
      },
      kPatience, &cancel);
  return sink_status.ok() ? status : sink_status;
}

absl::Status SupervisorClient::Events(const std::function<absl::Status()>& begun,
                                      const std::function<void(const v1::Project&)>& sink,
                                      Cancellation& cancel) {
  absl::Status begun_status;
  const absl::Status status = Try(
      [&](v1::Supervisor::Stub& stub, grpc::ClientContext& context, bool& final) {
        final = true;
        SetDeadline(context, kEventsTerm);
        auto reader = stub.Events(&context, v1::EventsRequest());
        reader->WaitForInitialMetadata();
        if (begun_status = begun(); !begun_status.ok()) {
          context.TryCancel();
        }
        v1::EventsResponse response;
        while (reader->Read(&response)) {
          sink(response.project());
        }
        return reader->Finish();
      },
      absl::ZeroDuration(), &cancel);
  if (!begun_status.ok()) {
    return begun_status;
  }
  return absl::IsDeadlineExceeded(status) ? absl::OkStatus() : status;
}

namespace {

class GrpcExec : public SupervisorClient::Exec {
 public:
  bool Send(const v1::ExecRequest& request) override { return stream->Write(request); }
  bool Receive(v1::ExecResponse& response) override { return stream->Read(&response); }
  absl::Status Finish() override { return rpc::FromGrpc(stream->Finish()); }
  void Cancel() override { context.TryCancel(); }

  std::shared_ptr<void> channel;  // outlives the stream
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ExecRequest, v1::ExecResponse>> stream;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SupervisorClient::Exec>> SupervisorClient::StartExec(
    const v1::ExecRequest::Start& start) {
  VIBE_ASSIGN_OR_RETURN(std::shared_ptr<Channel> channel, Connect());
  auto exec = std::make_unique<GrpcExec>();
  exec->stream = channel->stub->Exec(&exec->context);
  exec->channel = std::move(channel);
  v1::ExecRequest request;
  *request.mutable_start() = start;
  exec->Send(request);  // a failure shows in Receive and Finish
  return exec;
}

}  // namespace vibe::host
