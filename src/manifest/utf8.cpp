#include "manifest/utf8.h"

#include <algorithm>

namespace vibe::manifest {

CodePoint DecodeUtf8(absl::string_view text) {
  if (text.empty()) {
    return {};
  }
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) {
    return {first, 1};
  }
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) {
    return {};
  }
  uint32_t value = first & (0x7fU >> length);
  for (size_t i = 1; i < length; ++i) {
    if (!IsContinuationByte(text[i])) {
      return {};
    }
    value = (value << 6U) | (static_cast<unsigned char>(text[i]) & 0x3fU);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool is_surrogate = value >= 0xd800 && value <= 0xdfff;
  if (value < kSmallest[length] || is_surrogate || value > 0x10ffff) {
    return {};
  }
  return {value, length};
}

size_t CountCodePoints(absl::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !IsContinuationByte(c); }));
}

bool IsControl(uint32_t code_point) {
  return code_point < 0x20 || (code_point >= 0x7f && code_point <= 0x9f);
}

bool IsUnprintable(uint32_t code_point) {
  return IsControl(code_point) || code_point == 0x2028 || code_point == 0x2029 ||
         (code_point >= 0x202a && code_point <= 0x202e) ||
         (code_point >= 0x2066 && code_point <= 0x2069);
}

bool HasControl(absl::string_view text) {
  while (!text.empty()) {
    const CodePoint next = DecodeUtf8(text);
    if (next.length == 0 || IsControl(next.value)) {
      return true;
    }
    text.remove_prefix(next.length);
  }
  return false;
}

}  // namespace vibe::manifest
