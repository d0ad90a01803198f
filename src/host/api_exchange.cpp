#include "host/api_exchange.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "spdlog/spdlog.h"

namespace vibe::host {
namespace {

using nlohmann::json;

constexpr char kJson[] = "application/json";
constexpr char kNdjson[] = "application/x-ndjson";
constexpr char kExecProtocol[] = "vibe-exec";

// A page in a browser can send requests, but not without these.
absl::Status CheckOrigin(const HttpRequest& request) {
  const absl::Status refused = absl::PermissionDeniedError("requests of web pages are refused");
  if (request.Header("Origin")) {
    return refused;
  }
  std::string host = absl::AsciiStrToLower(request.Header("Host").value_or(""));
  const size_t colon = host.rfind(':');
  if (colon != std::string::npos && host.find(']', colon) == std::string::npos) {
    host.erase(colon);
  }
  return host == "vibed" || host == "localhost" || host == "127.0.0.1" || host == "[::1]"
             ? absl::OkStatus()
             : refused;
}

// The lines of a streamed answer. Heartbeats come from the watch's thread, the rest from the
// connection's.
class LineWriter {
 public:
  LineWriter(HttpConnection& connection, absl::Duration patience)
      : connection_(connection), patience_(patience) {}

  absl::Status Write(const json& line, absl::Duration patience) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return WriteLocked(DumpJson(line) + "\n", patience);
  }

  // A client that does not read misses progress; it does not hold up the work.
  void WriteProgress(const Progress& progress) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (connection_.Writable()) {
      WriteLocked(DumpJson({{"progress", ProgressJson(progress)}}) + "\n", patience_).IgnoreError();
    }
  }

  void Heartbeat() {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (lock.owns_lock() && !ended_ && connection_.Writable()) {
      WriteLocked("\n", absl::ZeroDuration()).IgnoreError();
    }
  }

  absl::Status End() {
    const std::lock_guard<std::mutex> lock(mutex_);
    VIBE_RETURN_IF_ERROR(StartLocked());
    ended_ = true;
    return connection_.EndChunks();
  }

  // Whether nothing has been written; then nothing will be.
  bool GiveUp() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = ended_ || !started_;
    return !started_;
  }

 private:
  absl::Status StartLocked() {
    if (std::exchange(started_, true)) {
      return absl::OkStatus();
    }
    return connection_.StartChunks(kNdjson);
  }

  absl::Status WriteLocked(const std::string& line, absl::Duration patience) {
    if (!broken_.ok() || ended_) {
      return broken_;
    }
    broken_ = StartLocked();
    if (broken_.ok()) {
      broken_ = connection_.WriteChunk(line, patience);
    }
    return broken_;
  }

  HttpConnection& connection_;
  const absl::Duration patience_;
  std::mutex mutex_;
  bool started_ = false;
  bool ended_ = false;
  absl::Status broken_;  // half a line may be out: nothing can follow
};

class ConnectionFrames : public FrameStream {
 public:
  ConnectionFrames(HttpConnection& connection, bool upgrade)
      : connection_(connection), upgrade_(upgrade) {}

  absl::Status Accept() override {
    if (!upgrade_) {
      return absl::InvalidArgumentError(
          "exec needs `Connection: Upgrade` and `Upgrade: vibe-exec`");
    }
    accepted_ = true;
    return connection_.SwitchProtocol(kExecProtocol);
  }

  absl::StatusOr<bool> Read(Frame& frame) override {
    while (true) {
      VIBE_ASSIGN_OR_RETURN(const bool whole, decoder_.Next(frame));
      if (whole) {
        return true;
      }
      VIBE_ASSIGN_OR_RETURN(const std::string bytes, connection_.ReadBytes());
      if (bytes.empty()) {
        return false;
      }
      decoder_.Append(bytes);
    }
  }

  absl::Status Write(ServerFrame type, absl::string_view payload) override {
    do {
      const absl::string_view part = payload.substr(0, kMaxFramePayload);
      payload.remove_prefix(part.size());
      VIBE_RETURN_IF_ERROR(connection_.WriteBytes(EncodeFrame(static_cast<uint8_t>(type), part),
                                                  absl::InfiniteDuration()));
    } while (!payload.empty());
    return absl::OkStatus();
  }

  void Shutdown() override { connection_.Shutdown(); }
  bool accepted() const { return accepted_; }

 private:
  HttpConnection& connection_;
  const bool upgrade_;
  bool accepted_ = false;
  FrameDecoder decoder_;
};

struct Responder {
  const Exchange& exchange;
  HttpConnection& connection;
  const HttpRequest& request;
  ApiCall& call;

  bool operator()(const DocumentHandler& handler) const {
    const ClientWatch::Registration watched(exchange.watch, connection.fd(), call.cancel, {});
    const absl::StatusOr<json> document = handler(call);
    if (!document.ok()) {
      return AnswerError(connection, document.status(), 0, request.keep_alive);
    }
    return connection.Respond(200, kJson, DumpJson(*document) + "\n", request.keep_alive).ok() &&
           request.keep_alive;
  }

  bool operator()(const StreamHandler& handler) const {
    LineWriter lines(connection, exchange.write_patience);
    absl::StatusOr<json> result;
    {
      const ClientWatch::Registration watched(exchange.watch, connection.fd(), call.cancel,
                                              [&lines] { lines.Heartbeat(); });
      result = handler(call, [&lines](const Progress& progress) { lines.WriteProgress(progress); });
    }
    if (!result.ok() && lines.GiveUp()) {
      return AnswerError(connection, result.status(), 0, request.keep_alive);
    }
    const json last =
        result.ok() ? json{{"result", *result}} : json{{"error", ErrorJson(result.status())}};
    if (lines.Write(last, exchange.write_patience).ok()) {
      lines.End().IgnoreError();
    }
    return false;
  }

  bool operator()(const LinesHandler& handler) const {
    LineWriter lines(connection, exchange.write_patience);
    absl::Status status;
    {
      const ClientWatch::Registration watched(exchange.watch, connection.fd(), call.cancel,
                                              [&lines] { lines.Heartbeat(); });
      // A reader of logs may pause as long as it likes: `less` does.
      status = handler(
          call, [&lines](const json& line) { return lines.Write(line, absl::InfiniteDuration()); });
    }
    if (!status.ok() && lines.GiveUp()) {
      return AnswerError(connection, status, 0, request.keep_alive);
    }
    if (status.ok() || lines.Write({{"error", ErrorJson(status)}}, exchange.write_patience).ok()) {
      lines.End().IgnoreError();
    }
    return false;
  }

  bool operator()(const ExecHandler& handler) const {
    const std::vector<std::string> connection_options =
        absl::StrSplit(absl::AsciiStrToLower(request.Header("Connection").value_or("")),
                       absl::ByAnyChar(", "), absl::SkipEmpty());
    const bool upgrade =
        std::count(connection_options.begin(), connection_options.end(), "upgrade") > 0 &&
        absl::EqualsIgnoreCase(request.Header("Upgrade").value_or(""), kExecProtocol);
    ConnectionFrames frames(connection, upgrade);
    const ClientWatch::Registration watched(exchange.watch, connection.fd(), call.cancel, {});
    const absl::Status status = handler(call, frames);
    if (frames.accepted()) {
      return false;
    }
    return AnswerError(connection, status.ok() ? absl::InternalError("exec did not start") : status,
                       0, request.keep_alive);
  }
};

absl::StatusOr<ApiCall> MakeCall(const HttpRequest& request, absl::string_view query,
                                 std::map<std::string, std::string> path, Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(QueryReader query_reader, QueryReader::Parse(query));
  VIBE_ASSIGN_OR_RETURN(BodyReader body, BodyReader::Parse(request.body));
  return ApiCall{std::move(path), std::move(query_reader), std::move(body), cancel};
}

}  // namespace

bool AnswerError(HttpConnection& connection, const absl::Status& status, int http_status,
                 bool keep_alive, const HttpConnection::Headers& headers) {
  const json document{{"error", ErrorJson(status)}};
  return connection
             .Respond(http_status == 0 ? HttpStatusOf(status) : http_status, kJson,
                      DumpJson(document) + "\n", keep_alive, headers)
             .ok() &&
         keep_alive;
}

bool Answer(const Exchange& exchange, HttpConnection& connection, const HttpRequest& request,
            Cancellation& cancel) {
  if (const absl::Status status = CheckOrigin(request); !status.ok()) {
    return AnswerError(connection, status, 0, false);
  }
  const std::pair<std::string, std::string> target =
      absl::StrSplit(request.target, absl::MaxSplits('?', 1));
  std::vector<std::string> methods;
  for (const Route& route : exchange.routes) {
    auto path = MatchPath(route.path, target.first);
    if (!path) {
      continue;
    }
    methods.push_back(route.method);
    if (route.method != request.method) {
      continue;
    }
    absl::StatusOr<ApiCall> call = MakeCall(request, target.second, *std::move(path), cancel);
    if (!call.ok()) {
      return AnswerError(connection, call.status(), 0, request.keep_alive);
    }
    spdlog::debug("{} {}", request.method, request.target);
    return std::visit(Responder{exchange, connection, request, *call}, route.handler);
  }
  if (!methods.empty()) {
    return AnswerError(
        connection,
        absl::InvalidArgumentError(absl::StrCat(target.first, " does not take ", request.method)),
        405, request.keep_alive, {{"Allow", absl::StrJoin(methods, ", ")}});
  }
  return AnswerError(
      connection,
      WithAdvice(absl::NotFoundError(absl::StrCat("nothing is served at ", target.first)),
                 "docs/api/openapi.yaml lists what is"),
      0, request.keep_alive);
}

}  // namespace vibe::host
