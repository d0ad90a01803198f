#include "relay/frame.h"

#include <algorithm>
#include <utility>

namespace vibe::relay {

void WriteFrameHeader(FrameKind kind, size_t count, char* header) {
  header[0] = static_cast<char>(kind);
  header[1] = static_cast<char>(count >> 16 & 0xff);
  header[2] = static_cast<char>(count >> 8 & 0xff);
  header[3] = static_cast<char>(count & 0xff);
}

FrameReader::Found FrameReader::Next(absl::string_view& bytes, Frame& frame) {
  while (left_ == 0 && !bytes.empty()) {
    if (over_) {
      return Found::kNonsense;
    }
    const size_t missing = std::min(kFrameHeaderBytes - header_size_, bytes.size());
    std::copy_n(bytes.begin(), missing, header_.begin() + header_size_);
    header_size_ += missing;
    bytes.remove_prefix(missing);
    if (header_size_ < kFrameHeaderBytes) {
      return Found::kNothing;
    }
    header_size_ = 0;
    if (!Understand()) {
      over_ = true;
      return Found::kNonsense;
    }
    if (kind_ != FrameKind::kData) {
      frame = {kind_, count_, {}};
      return Found::kFrame;
    }
    left_ = count_;
  }
  if (bytes.empty()) {
    return Found::kNothing;
  }
  frame = {FrameKind::kData, 0, bytes.substr(0, left_)};
  bytes.remove_prefix(frame.payload.size());
  left_ -= frame.payload.size();
  return Found::kFrame;
}

bool FrameReader::Understand() {
  count_ = size_t{header_[1]} << 16 | size_t{header_[2]} << 8 | header_[3];
  kind_ = static_cast<FrameKind>(header_[0]);
  const bool counts = count_ >= 1 && count_ <= kWindowBytes;
  switch (kind_) {
    case FrameKind::kData:
      return counts && !ended_;
    case FrameKind::kTaken:
      return counts;
    case FrameKind::kEnd:
      return count_ == 0 && !std::exchange(ended_, true);
    case FrameKind::kReset:
      over_ = true;
      return count_ == 0;
  }
  return false;
}

}  // namespace vibe::relay
