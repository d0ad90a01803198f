// Feeds anything to the reader of a forwarded connection's frames. What it finds must be what came,
// whole or in pieces, and within the limits. CMakeLists.txt beside it says how to build and run it.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "relay/frame.h"

namespace {

using vibe::relay::FrameKind;
using vibe::relay::FrameReader;

void Require(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "broken promise: %s\n", what);
    std::abort();
  }
}

struct Heard {
  std::string text;  // a letter for each frame that has no payload, with its count
  std::string payload;
  bool sense = true;

  bool operator==(const Heard&) const = default;
};

Heard Hear(absl::string_view bytes, size_t size) {
  FrameReader reader;
  Heard heard;
  bool ended = false;
  bool reset = false;
  while (!bytes.empty() && heard.sense) {
    absl::string_view piece = bytes.substr(0, size);
    bytes.remove_prefix(piece.size());
    FrameReader::Frame frame;
    FrameReader::Found found;
    while ((found = reader.Next(piece, frame)) == FrameReader::Found::kFrame) {
      Require(!reset, "nothing follows a reset");
      if (frame.kind == FrameKind::kData) {
        Require(!ended, "no data after the end");
        Require(!frame.payload.empty(), "data is at least a byte");
        heard.payload.append(frame.payload.data(), frame.payload.size());
        continue;
      }
      Require(frame.payload.empty(), "only data has a payload");
      const bool taken = frame.kind == FrameKind::kTaken;
      Require(frame.count >= (taken ? 1 : 0), "a count is positive");
      Require(frame.count <= (taken ? vibe::relay::kWindowBytes : 0), "a count has a limit");
      ended = ended || frame.kind == FrameKind::kEnd;
      reset = reset || frame.kind == FrameKind::kReset;
      heard.text += static_cast<char>('a' + static_cast<int>(frame.kind));
      heard.text += std::to_string(frame.count);
    }
    heard.sense = found == FrameReader::Found::kNothing;
    if (!heard.sense) {
      absl::string_view more("\2\0\0\0", 4);
      Require(reader.Next(more, frame) == FrameReader::Found::kNonsense,
              "nothing is found after nonsense");
    }
  }
  return heard;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const absl::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Heard whole = Hear(bytes, std::max<size_t>(bytes.size(), 1));
  Require(whole == Hear(bytes, 1), "byte by byte is the same");
  Require(whole == Hear(bytes, size_t{data[0]} + 1), "in pieces is the same");
  return 0;
}
