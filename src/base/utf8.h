// Text from programs that need not print UTF-8. Pure and thread-safe.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace vibe {

// The same text with U+FFFD for each byte that is not part of valid UTF-8 (overlong forms,
// surrogates and code points above U+10FFFF are not).
std::string ValidUtf8(absl::string_view text);

}  // namespace vibe
