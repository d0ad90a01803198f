// vibed's API on its unix socket: requests and answers as JSON, errors as statuses with their
// details.
//
// Threads: one call at a time; Cancel from any thread.
//
// Errors of a call are vibed's own (with reason, advice, service and log), or
//   Unavailable   nobody listens, or the connection broke
//   Cancelled     after Cancel; InterruptedError
//   DataLoss      what came is not what vibed sends
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "cli/json_fields.h"
#include "cli/progress.h"
#include "http/client.h"

namespace vibe::cli {

struct ApiRequest {
  std::string method = "GET";
  std::string target;
  std::optional<Json> body;
  // Between two bytes; covers waiting for the machine where vibed reports nothing meanwhile.
  absl::Duration idle = absl::Seconds(60);
};

class ApiClient {
 public:
  using ProgressSink = std::function<void(const ProgressEvent&)>;
  using RecordSink = std::function<absl::Status(const Json& record)>;

  explicit ApiClient(std::filesystem::path socket);
  ~ApiClient();

  // The answer, or the "result" of an answer that streams progress. Null for an empty answer.
  absl::StatusOr<Json> Call(const ApiRequest& request, const ProgressSink& progress);
  absl::StatusOr<Json> Call(const ApiRequest& request);

  // Each record of a stream, until it ends or the sink returns an error (which comes back).
  absl::Status Stream(const ApiRequest& request, const RecordSink& sink);

  // Switches the connection to `protocol` and gives it away.
  absl::StatusOr<http::UpgradedStream> Upgrade(const ApiRequest& request,
                                               const std::string& protocol);

  // Ends the call that runs and every later one. vibed sees the connection close.
  void Cancel();

 private:
  absl::StatusOr<http::Response> Send(const ApiRequest& request, const http::Headers& headers);
  absl::StatusOr<Json> ReadStream(const ProgressSink& progress);
  absl::StatusOr<Json> ReadDocument(const http::Response& response);
  absl::Status Reported(const Json& error);
  absl::Status Keep(absl::Status status);  // an error that Explain leaves as it is
  absl::Status Explain(const absl::Status& error);
  void Close();

  const std::filesystem::path socket_;
  absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  int cancel_fd_ ABSL_GUARDED_BY(mutex_) = -1;    // connection_'s, while a call runs
  bool reported_ = false;                         // the error is not the connection's
  std::unique_ptr<http::Connection> connection_;  // of the thread that calls
};

// "/v1/projects/NAME" and then `suffix`; NAME is percent-encoded.
std::string ProjectTarget(absl::string_view ref, absl::string_view suffix = "");

// For the value of a query parameter or one part of a path.
std::string PercentEncode(absl::string_view text);

}  // namespace vibe::cli
