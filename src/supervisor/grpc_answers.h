// How a long call of the contract answers. Inside of the gRPC service only.
#pragma once

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "rpc/status.h"
#include "supervisor/project_runtime.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::supervisor {

// The stream of a long call: progress comes from several threads, one write at a time.
template <typename Response>
class Answers {
 public:
  explicit Answers(grpc::ServerWriter<Response>* writer) : writer_(writer) {}

  ProgressSink progress() {
    return [this](const v1::Progress& progress) {
      Response response;
      *response.mutable_progress() = progress;
      absl::MutexLock lock(&mutex_);
      writer_->Write(response);  // a client that is gone is noticed by the context
    };
  }

  grpc::Status Finish(absl::StatusOr<v1::Project> project) {
    if (!project.ok()) {
      return rpc::ToGrpc(project.status());
    }
    Response response;
    *response.mutable_project() = *std::move(project);
    return Finish(response);
  }
  grpc::Status Finish(const Response& response) {
    absl::MutexLock lock(&mutex_);
    writer_->Write(response);
    return grpc::Status::OK;
  }

 private:
  absl::Mutex mutex_;
  grpc::ServerWriter<Response>* const writer_;
};

}  // namespace vibe::supervisor
