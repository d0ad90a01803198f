// A TCP connection over a stream of the machine, in frames. Such a stream may know neither half a
// connection nor a reset, so what becomes of a connection is said in it: the stream itself ends
// only when the connection is over, and one that ends before is a connection that broke.
//
// A frame is four bytes, big-endian, the first of them its kind and the other three a count:
//   0 data   so many bytes follow: 1 to kWindowBytes
//   1 taken  so many bytes were passed on where the frame comes from: 1 to kWindowBytes
//   2 end    of the sender's data; the count is 0
//   3 reset  the connection broke at the sender; the count is 0, and nothing follows
// An end has at most kWindowBytes on the way that the other end did not say "taken" to. So each can
// hold what comes and never stops reading, and no frame waits behind data that nobody takes.
//
// Pure; different objects are thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace vibe::relay {

inline constexpr size_t kFrameHeaderBytes = 4;
inline constexpr size_t kWindowBytes = 256 << 10;

enum class FrameKind : uint8_t { kData = 0, kTaken = 1, kEnd = 2, kReset = 3 };

// `header` has room for kFrameHeaderBytes.
void WriteFrameHeader(FrameKind kind, size_t count, char* header);

// Finds the frames in a stream, however it is cut.
class FrameReader {
 public:
  enum class Found { kFrame, kNothing, kNonsense };

  // `payload` is what is there of a data frame, at least one byte: the rest comes with the next
  // one. `count` is that of a taken frame.
  struct Frame {
    FrameKind kind = FrameKind::kData;
    size_t count = 0;
    absl::string_view payload;
  };

  // Takes the next frame from the front of `bytes`; kNothing when there is no more in them. After
  // kNonsense, which also is data after the end and anything after a reset, nothing is found.
  Found Next(absl::string_view& bytes, Frame& frame);

 private:
  bool Understand();

  std::array<unsigned char, kFrameHeaderBytes> header_{};
  size_t header_size_ = 0;
  FrameKind kind_ = FrameKind::kData;
  size_t count_ = 0;
  size_t left_ = 0;  // of a data frame's payload
  bool ended_ = false, over_ = false;
};

}  // namespace vibe::relay
