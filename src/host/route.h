// What the API serves, as values: method, path, and a function that answers. Plain values.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "host/api_error.h"
#include "host/cancellation.h"
#include "host/exec_frame.h"
#include "host/progress.h"
#include "host/query_reader.h"

namespace vibe::host {

// One request, its parts decoded.
struct ApiCall {
  std::map<std::string, std::string> path;  // "ref" for {ref}
  QueryReader query;
  BodyReader body;
  Cancellation& cancel;
};

// A connection that was upgraded to vibe-exec.
class FrameStream {
 public:
  virtual ~FrameStream() = default;
  // Switches the protocol; before it, an error is a plain answer. Once.
  virtual absl::Status Accept() = 0;
  // false: the client closed.
  virtual absl::StatusOr<bool> Read(Frame& frame) = 0;
  // From another thread than Read. Splits what is too long for one frame.
  virtual absl::Status Write(ServerFrame type, absl::string_view payload) = 0;
  virtual void Shutdown() = 0;  // ends a Read; from any thread
};

using JsonSink = std::function<absl::Status(const nlohmann::json&)>;

using DocumentHandler = std::function<absl::StatusOr<nlohmann::json>(ApiCall&)>;
using StreamHandler = std::function<absl::StatusOr<nlohmann::json>(ApiCall&, const ProgressSink&)>;
using LinesHandler = std::function<absl::Status(ApiCall&, const JsonSink&)>;
using ExecHandler = std::function<absl::Status(ApiCall&, FrameStream&)>;

struct Route {
  std::string method;
  std::string path;  // as in openapi.yaml: /v1/projects/{ref}
  std::variant<DocumentHandler, StreamHandler, LinesHandler, ExecHandler> handler;
};

inline Route Document(const char* method, const char* path, DocumentHandler handler) {
  return {method, path, std::move(handler)};
}
inline Route Stream(const char* method, const char* path, StreamHandler handler) {
  return {method, path, std::move(handler)};
}

inline constexpr uint32_t kMaxTail = 100'000;  // of the requests for logs

// To be called when all was read that the request may have: InvalidArgument names what else it has.
absl::Status Bare(ApiCall& call);

// The parts of `path` that the template's {names} stand for, decoded; nullopt when it does not fit.
// Pure.
std::optional<std::map<std::string, std::string>> MatchPath(absl::string_view path_template,
                                                            absl::string_view path);
}  // namespace vibe::host
