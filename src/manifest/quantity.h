// Durations and sizes as Compose writes them. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace vibe::manifest {

// "1h5m30s", "1.5s", "500ms"; units h, m, s, ms, us, ns. Whole milliseconds, rounded up. Nothing
// for other text, a number without a unit, a sign, or more than a year.
std::optional<int64_t> ParseDurationMs(absl::string_view text);

// "1500ms" or "2s": ParseDurationMs reads the same again.
std::string DurationText(int64_t milliseconds);

// "256m", "1.5g", "64MiB", "1048576": bytes, k, m, g, t in powers of 1024, in any case, with b, ib
// or nothing behind. Rounded up to whole bytes. Nothing for other text, a sign, or more than 2^60.
std::optional<int64_t> ParseBytes(absl::string_view text);

// "1.5", "2": digits with an optional fraction, nothing else.
std::optional<double> ParseDecimal(absl::string_view text);

// "42", "-1": without leading zeros, which other readers take for octal.
std::optional<int64_t> ParseWhole(absl::string_view text);

}  // namespace vibe::manifest
