// A call whose answer streams progress.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "cli/api_client.h"

namespace vibe::cli {

// The machine may boot, a database recover and a service stop without a word in between; the user
// has Ctrl-C.
inline constexpr absl::Duration kLongSilence = absl::Minutes(15);

inline ApiRequest LongCall(std::string method, std::string target, std::optional<Json> body) {
  ApiRequest request;
  request.method = std::move(method);
  request.target = std::move(target);
  request.body = std::move(body);
  request.idle = kLongSilence;
  return request;
}

}  // namespace vibe::cli
