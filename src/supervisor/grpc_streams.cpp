// The calls of GrpcService that go on for as long as their client stays, and the upload of
// packages.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "rpc/status.h"
#include "supervisor/full_disk.h"
#include "supervisor/grpc_service.h"
#include "supervisor/log_stream.h"
#include "supervisor/project_view.h"

namespace vibe::supervisor {
namespace {

constexpr uint32_t kDefaultTail = 100;
constexpr uint32_t kMaxTail = 100'000;
constexpr absl::Duration kFollowInterval = absl::Milliseconds(50);
constexpr absl::Duration kProjectCheckInterval = absl::Seconds(1);
constexpr absl::Duration kEventsInterval = absl::Milliseconds(200);
// Of one message: far below the transport's limit even with the longest lines.
constexpr size_t kMaxMessageBytes = 256 << 10;
constexpr size_t kMaxChunkBytes = 1 << 20;

// One of the calls that may stay for ever, counted for as long as it lives.
class Follower {
 public:
  explicit Follower(std::atomic<int>& count) : count_(count), admitted_(++count <= kMaxFollowers) {}
  ~Follower() { --count_; }
  absl::Status admitted() const {
    return admitted_ ? absl::OkStatus()
                     : absl::ResourceExhaustedError(absl::StrCat(
                           "there are ", kMaxFollowers, " followers of logs and events already"));
  }

 private:
  std::atomic<int>& count_;
  const bool admitted_;
};

bool SendLines(std::vector<ServiceLine> lines,
               grpc::ServerWriter<v1::GetProjectLogsResponse>& writer) {
  v1::GetProjectLogsResponse response;
  size_t bytes = 0;
  for (ServiceLine& line : lines) {
    bytes += line.record.text.size() + line.service.size() + 32;
    v1::LogLine* sent = response.add_lines();
    *sent->mutable_time() = ToTimestamp(line.record.time);
    sent->set_service(line.service);
    sent->set_stream(line.record.stream == logs::Stream::kStdout ? v1::LogLine::STREAM_STDOUT
                                                                 : v1::LogLine::STREAM_STDERR);
    sent->set_text(std::move(line.record.text));
    if (bytes >= kMaxMessageBytes) {
      if (!writer.Write(response)) {
        return false;
      }
      response.Clear();
      bytes = 0;
    }
  }
  return response.lines().empty() || writer.Write(response);
}

}  // namespace

grpc::Status GrpcService::GetProjectLogs(grpc::ServerContext* context,
                                         const v1::GetProjectLogsRequest* request,
                                         grpc::ServerWriter<v1::GetProjectLogsResponse>* writer) {
  const uint32_t tail = request->has_tail() ? request->tail() : kDefaultTail;
  if (tail > kMaxTail) {
    return rpc::ToGrpc(
        absl::InvalidArgumentError(absl::StrCat("tail is at most ", kMaxTail, ", not ", tail)));
  }
  const auto files = supervisor_.LogFiles(request->id(), request->service());
  if (!files.ok()) {
    return rpc::ToGrpc(files.status());
  }
  std::optional<Follower> follower;
  if (request->follow()) {
    follower.emplace(followers_);
    if (const absl::Status admitted = follower->admitted(); !admitted.ok()) {
      return rpc::ToGrpc(admitted);
    }
  }
  LogStream stream(*files);
  auto lines = stream.Tail(tail);
  absl::Time checked = absl::Now();
  while (lines.ok() && SendLines(*std::move(lines), *writer) && request->follow() &&
         !Ending(*context)) {
    absl::SleepFor(kFollowInterval);
    const absl::Time now = absl::Now();
    lines = stream.Next(now);
    if (now - checked > kProjectCheckInterval) {
      checked = now;
      if (!supervisor_.LogFiles(request->id(), request->service()).ok()) {
        return grpc::Status::OK;  // the project was removed
      }
    }
  }
  return rpc::ToGrpc(lines.status());
}

grpc::Status GrpcService::Events(grpc::ServerContext* context, const v1::EventsRequest*,
                                 grpc::ServerWriter<v1::EventsResponse>* writer) {
  const Follower follower(followers_);
  if (const absl::Status admitted = follower.admitted(); !admitted.ok()) {
    return rpc::ToGrpc(admitted);
  }
  const auto subscription = supervisor_.events().Subscribe();
  writer->SendInitialMetadata();  // says that changes from now on will be seen
  while (!Ending(*context)) {
    if (auto project = subscription->Next(kEventsInterval)) {
      v1::EventsResponse response;
      *response.mutable_project() = *std::move(project);
      if (!writer->Write(response)) {
        break;
      }
    }
  }
  return grpc::Status::OK;
}

grpc::Status GrpcService::ImportPackage(
    grpc::ServerContext* context,
    grpc::ServerReaderWriter<v1::ImportPackageResponse, v1::ImportPackageRequest>* stream) {
  v1::ImportPackageRequest request;
  if (!stream->Read(&request) || !request.has_index()) {
    return rpc::ToGrpc(
        absl::InvalidArgumentError("the first message has to be the package's index"));
  }
  const auto digest = PackageStore::DigestOf(request.index());
  if (!digest.ok()) {
    return rpc::ToGrpc(digest.status());
  }
  v1::ImportPackageResponse response;
  supervisor_.packages().Pin(*digest);  // until EnsureProject names it
  const bool known = supervisor_.packages().Has(*digest);
  uint64_t total = 0;
  for (const v1::PackageFile& file : request.index().files()) {
    total += file.size();
  }
  if (!known) {
    if (const absl::Status space = supervisor_.CheckSpace(total); !space.ok()) {
      return rpc::ToGrpc(space);
    }
  }
  response.set_send_files(!known);
  stream->Write(response);
  if (!known) {
    auto import = supervisor_.packages().Import(request.index());
    absl::Status status = import.status();
    uint64_t done = 0;
    while (status.ok() && stream->Read(&request)) {
      if (!request.has_chunk() || request.chunk().size() > kMaxChunkBytes) {
        status = absl::InvalidArgumentError("after the index come chunks of up to 1 MiB");
        break;
      }
      status = (*import)->Write(request.chunk());
      done += request.chunk().size();
      response.mutable_progress()->set_phase(v1::Progress::PHASE_UPLOAD);
      response.mutable_progress()->set_done(done);
      response.mutable_progress()->set_total(total);
      response.mutable_progress()->set_unit("bytes");
      stream->Write(response);
    }
    if (status.ok() && Ending(*context)) {
      status = absl::CancelledError("the upload was broken off");
    }
    if (status.ok()) {
      status = (*import)->Finish();
    }
    if (!status.ok()) {
      return rpc::ToGrpc(WithFreeSpace(std::move(status), supervisor_.data_directory()));
    }
  }
  response.set_package_digest(*digest);
  stream->Write(response);
  return grpc::Status::OK;
}

}  // namespace vibe::supervisor
