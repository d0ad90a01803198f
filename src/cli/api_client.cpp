#include "cli/api_client.h"

#include <sys/socket.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "cli/error_text.h"

namespace vibe::cli {
namespace {

constexpr size_t kMaxDocument = 16 << 20;
constexpr size_t kMaxLine = 4 << 20;

absl::StatusOr<Json> ParseJson(absl::string_view text) {
  Json json = Json::parse(text.begin(), text.end(), nullptr, false);
  if (json.is_discarded()) {
    return absl::DataLossError("vibed answered with something that is not JSON");
  }
  return json;
}

// {"error":{…}}. Documents such as the machine's have an "error" that is a text.
bool IsError(const Json& json) {
  return json.is_object() && json.contains("error") && json["error"].is_object();
}

bool IsStream(const http::Response& response) {
  return absl::StrContains(http::HeaderValue(response.headers, "Content-Type"), "ndjson");
}

}  // namespace

ApiClient::ApiClient(std::filesystem::path socket) : socket_(std::move(socket)) {}

ApiClient::~ApiClient() {
  Close();
}

absl::StatusOr<Json> ApiClient::Call(const ApiRequest& request) {
  return Call(request, [](const ProgressEvent&) {});
}

absl::StatusOr<Json> ApiClient::Call(const ApiRequest& request, const ProgressSink& progress) {
  const auto call = [&]() -> absl::StatusOr<Json> {
    VIBE_ASSIGN_OR_RETURN(const http::Response response, Send(request, {}));
    return IsStream(response) ? ReadStream(progress) : ReadDocument(response);
  };
  absl::StatusOr<Json> answer = call();
  const absl::Status status = Explain(answer.status());
  Close();
  if (!status.ok()) {
    return status;
  }
  return answer;
}

absl::Status ApiClient::Stream(const ApiRequest& request, const RecordSink& sink) {
  const auto call = [&]() -> absl::Status {
    VIBE_ASSIGN_OR_RETURN(const http::Response response, Send(request, {}));
    if (response.status / 100 != 2) {
      return ReadDocument(response).status();
    }
    return connection_->ReadLines(kMaxLine, [&](absl::string_view line) -> absl::Status {
      VIBE_ASSIGN_OR_RETURN(const Json record, ParseJson(line));
      return IsError(record) ? Reported(record["error"]) : Keep(sink(record));
    });
  };
  const absl::Status status = Explain(call());
  Close();
  return status;
}

absl::StatusOr<http::UpgradedStream> ApiClient::Upgrade(const ApiRequest& request,
                                                        const std::string& protocol) {
  const auto call = [&]() -> absl::StatusOr<http::UpgradedStream> {
    VIBE_ASSIGN_OR_RETURN(const http::Response response,
                          Send(request, {{"Connection", "Upgrade"}, {"Upgrade", protocol}}));
    if (response.status == 101) {
      absl::MutexLock lock(&mutex_);
      cancel_fd_ = -1;
      return connection_->TakeStream();
    }
    VIBE_RETURN_IF_ERROR(ReadDocument(response).status());
    return absl::DataLossError("vibed did not switch the protocol");
  };
  absl::StatusOr<http::UpgradedStream> stream = call();
  const absl::Status status = Explain(stream.status());
  Close();
  if (!status.ok()) {
    return status;
  }
  return stream;
}

void ApiClient::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  if (cancel_fd_ >= 0) {
    ::shutdown(cancel_fd_, SHUT_RDWR);
  }
}

absl::StatusOr<http::Response> ApiClient::Send(const ApiRequest& request,
                                               const http::Headers& headers) {
  reported_ = false;
  http::Timeouts timeouts;
  timeouts.connect = absl::Seconds(5);
  timeouts.idle = request.idle;
  VIBE_ASSIGN_OR_RETURN(connection_,
                        http::Connection::Connect(http::Endpoint::Unix(socket_), timeouts));
  {
    absl::MutexLock lock(&mutex_);
    if (cancelled_) {
      return absl::UnavailableError("interrupted");
    }
    cancel_fd_ = connection_->fd();
  }
  http::Request message;
  message.method = request.method;
  message.target = request.target;
  message.headers = headers;
  message.headers.emplace_back("Accept", "application/json, application/x-ndjson");
  if (request.body) {
    message.headers.emplace_back("Content-Type", "application/json");
    message.body = Dump(*request.body);
  }
  return connection_->Send(message);
}

absl::StatusOr<Json> ApiClient::ReadStream(const ProgressSink& progress) {
  std::optional<Json> result;
  VIBE_RETURN_IF_ERROR(
      connection_->ReadLines(kMaxLine, [&](absl::string_view line) -> absl::Status {
        VIBE_ASSIGN_OR_RETURN(const Json record, ParseJson(line));
        if (IsError(record)) {
          return Reported(record["error"]);
        }
        if (record.is_object() && record.contains("progress")) {
          progress(ParseProgress(record["progress"]));
        } else if (record.is_object() && record.contains("result")) {
          result = record["result"];
        }
        return absl::OkStatus();
      }));
  if (!result) {
    return absl::UnavailableError("the connection was closed before the result came");
  }
  return *std::move(result);
}

absl::StatusOr<Json> ApiClient::ReadDocument(const http::Response& response) {
  VIBE_ASSIGN_OR_RETURN(const std::string text, connection_->ReadBody(kMaxDocument));
  if (text.empty() && response.status / 100 == 2) {
    return Json();
  }
  const absl::StatusOr<Json> json = ParseJson(text);
  if (json.ok() && IsError(*json)) {
    return Reported((*json)["error"]);
  }
  if (response.status / 100 != 2) {
    return Keep(
        absl::UnknownError(absl::StrCat("vibed answered with HTTP status ", response.status)));
  }
  return json;
}

absl::Status ApiClient::Reported(const Json& error) {
  return Keep(ErrorFromJson(error));
}

absl::Status ApiClient::Keep(absl::Status status) {
  reported_ = !status.ok();
  return status;
}

// What the HTTP client says of its connection, in words of this program.
absl::Status ApiClient::Explain(const absl::Status& error) {
  absl::MutexLock lock(&mutex_);
  if (error.ok()) {
    return error;
  }
  if (cancelled_) {
    return InterruptedError("interrupted");
  }
  if (reported_) {
    return error;
  }
  return WithAdvice(
      Annotate(error, "no answer from vibed"),
      "look at logs/vibed.log in Vibe's home; if it hangs, end the process vibed: the next "
      "command starts another");
}

void ApiClient::Close() {
  absl::MutexLock lock(&mutex_);
  cancel_fd_ = -1;
  connection_.reset();
}

std::string PercentEncode(absl::string_view text) {
  std::string out;
  for (const unsigned char c : text) {
    if (absl::ascii_isalnum(c) || absl::StrContains("-_.~", static_cast<char>(c))) {
      out += static_cast<char>(c);
    } else {
      absl::StrAppendFormat(&out, "%%%02X", c);
    }
  }
  return out;
}

std::string ProjectTarget(absl::string_view ref, absl::string_view suffix) {
  return absl::StrCat("/v1/projects/", PercentEncode(ref), suffix);
}

}  // namespace vibe::cli
