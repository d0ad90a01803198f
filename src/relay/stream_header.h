// The first line of a forwarded connection, sent by the host on a stream to rpc::kForwardPort:
//   "CONNECT <project id> <service> <port>\n"
// answered by the machine with "OK\n", after which bytes flow both ways, or "ERR <message>\n" and
// the end. Lines are at most kMaxHeaderBytes long. Pure and thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::relay {

inline constexpr size_t kMaxHeaderBytes = 256;

struct StreamHeader {
  std::string project_id;
  std::string service;
  uint16_t port = 0;
};

std::string FormatHeader(const StreamHeader& header);
absl::StatusOr<StreamHeader> ParseHeader(absl::string_view line);  // without the newline

}  // namespace vibe::relay
