// Unpredictable names. Thread-safe.
#pragma once

#include <cstddef>
#include <string>

namespace vibe {

std::string RandomHex(size_t bytes);  // 2*bytes lower-case hex digits
std::string RandomUuid();             // RFC 4122 version 4

}  // namespace vibe
