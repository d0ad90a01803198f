// The first line of a forwarded connection, sent by the host on a stream to rpc::kForwardPort:
//   "CONNECT <project id> <service> <port>\n"    a TCP connection
//   "DATAGRAMS <project id> <service> <port>\n"  a flow of UDP datagrams
// The machine answers with one line:
//   "OK\n"             the connection's bytes flow both ways on this stream in frames, as in
//                      relay/frame.h, or datagrams do as in relay/datagram_stream.h
//   "FD\n"             the connection's own socket comes along (SCM_RIGHTS), and this stream is
//                      ready for the host's next line. Only to CONNECT, and only where host and
//                      machine share a kernel: the stream is a unix socket then
//   "ERR <message>\n"  the end
// Lines are at most kMaxHeaderBytes long. Pure and thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::relay {

inline constexpr size_t kMaxHeaderBytes = 256;

// The first answers; both are kAnswerBytes long.
inline constexpr char kOk[] = "OK\n";
inline constexpr char kDescriptor[] = "FD\n";
inline constexpr size_t kAnswerBytes = 3;

enum class Protocol { kTcp, kUdp };

struct StreamHeader {
  std::string project_id;
  std::string service;
  uint16_t port = 0;
  Protocol protocol = Protocol::kTcp;
};

std::string FormatHeader(const StreamHeader& header);
absl::StatusOr<StreamHeader> ParseHeader(absl::string_view line);  // without the newline

}  // namespace vibe::relay
