// A log of vibed's on stdout, until its end or, when it is followed, until Ctrl-C or until nobody
// reads the output any more.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "cli/api_client.h"
#include "cli/session.h"

namespace vibe::cli {

struct LogQuery {
  std::string target;  // with the parameters, those of tail and follow too
  bool follow = false;
};

// One record of the log as text with its line feed.
using LineRenderer = std::function<std::string(const Json&)>;

// `prepare` gives the renderer once vibed is there. With --json the records are one document, or
// with follow a document each. Returns the exit code.
absl::StatusOr<int> ShowLog(Session& session, const LogQuery& query,
                            const std::function<absl::StatusOr<LineRenderer>(ApiClient&)>& prepare);

// "tail=100&follow=false"
std::string LogParameters(uint32_t tail, bool follow);

}  // namespace vibe::cli
