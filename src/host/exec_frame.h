// The frames that flow both ways on a connection upgraded to vibe-exec: 1 byte type, 4 bytes length
// (big-endian, at most kMaxFramePayload), payload. docs/api/openapi.yaml describes them for other
// languages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::host {

inline constexpr size_t kFrameHeaderBytes = 5;
inline constexpr size_t kMaxFramePayload = 1 << 20;

enum class ClientFrame : uint8_t {
  kStdin = 0,
  kCloseStdin = 1,  // empty
  kResize = 2,      // u16 columns, u16 rows
  kSignal = 3,      // u8
};

enum class ServerFrame : uint8_t {
  kStdout = 1,
  kStderr = 2,
  kExitCode = 3,  // u32; the last frame
  kError = 4,     // the schema Error as JSON; the last frame
};

struct Frame {
  uint8_t type = 0;
  std::string payload;
};

// `payload` is at most kMaxFramePayload bytes long. Pure.
std::string EncodeFrame(uint8_t type, absl::string_view payload);

// Integers of frames. Pure.
std::string EncodeU32(uint32_t value);
struct FrameSize {
  uint16_t columns = 0;
  uint16_t rows = 0;
};
absl::StatusOr<FrameSize> DecodeResize(absl::string_view payload);
absl::StatusOr<uint8_t> DecodeSignal(absl::string_view payload);

// Cuts a stream of bytes into frames. One thread at a time.
class FrameDecoder {
 public:
  void Append(absl::string_view bytes);
  // Takes the next whole frame; false when more bytes are needed; InvalidArgument when a frame is
  // too long, after which the stream is of no more use.
  absl::StatusOr<bool> Next(Frame& frame);

 private:
  std::string buffer_;
  size_t begin_ = 0;
};

}  // namespace vibe::host
