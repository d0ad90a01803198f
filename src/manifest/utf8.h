// UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF. Pure.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace vibe::manifest {

struct CodePoint {
  uint32_t value = 0;
  size_t length = 0;  // bytes; 0: the text does not start with valid UTF-8
};

CodePoint DecodeUtf8(absl::string_view text);

// The number of code points of valid UTF-8.
size_t CountCodePoints(absl::string_view text);

inline bool IsContinuationByte(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

// C0, DEL and C1: what moves a terminal's cursor or ends a line in a log.
bool IsControl(uint32_t code_point);

// The controls and what turns the direction of the text around it.
bool IsUnprintable(uint32_t code_point);

bool HasControl(absl::string_view text);

}  // namespace vibe::manifest
