// Errors as people and as scripts read them, and as vibed sends them. Pure and thread-safe.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "cli/json_fields.h"

namespace vibe::cli {

// "error: what, why; what to do", then the service's last log lines, indented. Ends in a line feed.
// Everything is escaped.
std::string RenderError(const absl::Status& error, bool color);

// {code,reason,message,advice,service,log}; what is empty is left out, but for code and message.
Json ErrorToJson(const absl::Status& error);

// Never ok, whatever `json` is.
absl::Status ErrorFromJson(const Json& json);

// The user pressed Ctrl-C: exit code 130.
absl::Status InterruptedError(absl::string_view message);
bool IsInterrupted(const absl::Status& status);

}  // namespace vibe::cli
