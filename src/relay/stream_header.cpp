#include "relay/stream_header.h"

#include <algorithm>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace vibe::relay {
namespace {

constexpr absl::string_view kTcpVerb = "CONNECT";
constexpr absl::string_view kUdpVerb = "DATAGRAMS";

bool IsName(absl::string_view text) {
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
  });
}

}  // namespace

std::string FormatHeader(const StreamHeader& header) {
  return absl::StrCat(header.protocol == Protocol::kTcp ? kTcpVerb : kUdpVerb, " ",
                      header.project_id, " ", header.service, " ", header.port, "\n");
}

absl::StatusOr<StreamHeader> ParseHeader(absl::string_view line) {
  if (line.size() > kMaxHeaderBytes) {
    return absl::InvalidArgumentError("the stream header is too long");
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(line, ' ');
  if (parts.size() != 4 || (parts[0] != kTcpVerb && parts[0] != kUdpVerb) || !IsName(parts[1]) ||
      !IsName(parts[2])) {
    return absl::InvalidArgumentError(
        "the stream header is not CONNECT or DATAGRAMS, and PROJECT SERVICE PORT");
  }
  // SimpleAtoi also takes signs and blanks, which no writer of ours makes.
  uint32_t port = 0;
  const bool digits =
      std::all_of(parts[3].begin(), parts[3].end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || !absl::SimpleAtoi(parts[3], &port) || port == 0 || port > 65535) {
    return absl::InvalidArgumentError("the stream header's port is not between 1 and 65535");
  }
  return StreamHeader{std::string(parts[1]), std::string(parts[2]), static_cast<uint16_t>(port),
                      parts[0] == kTcpVerb ? Protocol::kTcp : Protocol::kUdp};
}

}  // namespace vibe::relay
