// Text for people: made safe for a terminal, measured and cut to its width. Pure and thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace vibe::cli {

// Names, paths and messages come from apps and registries: what could move the cursor, change
// colours or turn the direction of writing is shown as an escape (\x1b, \u{202e}). Bytes that are
// not UTF-8 too.
std::string Escape(absl::string_view text);

// The same, line by line: line feeds stay.
std::string EscapeLines(absl::string_view text);

// Columns that escaped text takes on a terminal.
int DisplayWidth(absl::string_view text);

// Cut to at most `width` columns, ending in "…" when something is missing.
std::string Fit(absl::string_view text, int width);

// Filled with spaces to `width` columns; longer text stays as it is.
std::string Pad(absl::string_view text, int width);

std::string FormatBytes(uint64_t bytes);    // "27.4 MB", decimal as registries show it
std::string FormatAge(absl::Duration age);  // "42s", "3m", "5h", "12d"

enum class Color { kRed, kGreen, kYellow, kBlue, kMagenta, kCyan, kDim, kBold };

// `text` between escape codes when `enabled`.
std::string Paint(absl::string_view text, Color color, bool enabled);

}  // namespace vibe::cli
