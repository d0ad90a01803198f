#include "host/exec_frame.h"

#include "absl/strings/str_cat.h"

namespace vibe::host {
namespace {

uint8_t ByteAt(absl::string_view bytes, size_t index) {
  return static_cast<uint8_t>(bytes[index]);
}

uint16_t U16At(absl::string_view bytes, size_t index) {
  return static_cast<uint16_t>(ByteAt(bytes, index) << 8 | ByteAt(bytes, index + 1));
}

}  // namespace

std::string EncodeU32(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) {
    bytes.push_back(static_cast<char>(value >> shift & 0xff));
  }
  return bytes;
}

std::string EncodeFrame(uint8_t type, absl::string_view payload) {
  std::string frame(1, static_cast<char>(type));
  frame += EncodeU32(static_cast<uint32_t>(payload.size()));
  frame.append(payload.data(), payload.size());
  return frame;
}

absl::StatusOr<FrameSize> DecodeResize(absl::string_view payload) {
  if (payload.size() != 4) {
    return absl::InvalidArgumentError("a resize frame holds 4 bytes");
  }
  return FrameSize{U16At(payload, 0), U16At(payload, 2)};
}

absl::StatusOr<uint8_t> DecodeSignal(absl::string_view payload) {
  if (payload.size() != 1 || ByteAt(payload, 0) == 0 || ByteAt(payload, 0) > 64) {
    return absl::InvalidArgumentError("a signal frame holds one byte from 1 to 64");
  }
  return ByteAt(payload, 0);
}

void FrameDecoder::Append(absl::string_view bytes) {
  buffer_.erase(0, begin_);
  begin_ = 0;
  buffer_.append(bytes.data(), bytes.size());
}

absl::StatusOr<bool> FrameDecoder::Next(Frame& frame) {
  const absl::string_view rest = absl::string_view(buffer_).substr(begin_);
  if (rest.size() < kFrameHeaderBytes) {
    return false;
  }
  const size_t size = static_cast<size_t>(U16At(rest, 1)) << 16 | U16At(rest, 3);
  if (size > kMaxFramePayload) {
    return absl::InvalidArgumentError(
        absl::StrCat("a frame of ", size, " bytes is over the limit of ", kMaxFramePayload));
  }
  if (rest.size() < kFrameHeaderBytes + size) {
    return false;
  }
  frame.type = ByteAt(rest, 0);
  frame.payload = std::string(rest.substr(kFrameHeaderBytes, size));
  begin_ += kFrameHeaderBytes + size;
  return true;
}

}  // namespace vibe::host
