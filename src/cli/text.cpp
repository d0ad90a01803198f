#include "cli/text.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace vibe::cli {
namespace {

struct CodePoint {
  uint32_t value = 0;
  size_t length = 1;   // bytes
  bool valid = false;  // false: the first byte alone, not UTF-8
};

CodePoint Decode(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) {
    return {first, 1, true};
  }
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) {
    return {first, 1, false};
  }
  uint32_t value = first & (0xffU >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) {
      return {first, 1, false};
    }
    value = value << 6 | (byte(i) & 0x3f);
  }
  constexpr std::array<uint32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xd800 && value < 0xe000;
  if (value < kSmallest[length] || value > 0x10ffff || surrogate) {
    return {first, 1, false};
  }
  return {value, length, true};
}

bool IsUnsafe(uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) ||  // control characters
         c == 0x061c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;  // line breaks and direction marks
}

int Columns(uint32_t c) {
  const bool combining =
      (c >= 0x300 && c < 0x370) || (c >= 0x200b && c <= 0x200d) || (c >= 0xfe00 && c <= 0xfe0f);
  const bool wide = (c >= 0x1100 && c <= 0x115f) || (c >= 0x2e80 && c <= 0xa4cf) ||
                    (c >= 0xac00 && c <= 0xd7a3) || (c >= 0xf900 && c <= 0xfaff) ||
                    (c >= 0xfe30 && c <= 0xfe6f) || (c >= 0xff00 && c <= 0xff60) ||
                    (c >= 0x1f300 && c <= 0x1faff) || (c >= 0x20000 && c <= 0x3fffd);
  return combining ? 0 : wide ? 2 : 1;
}

std::string EscapeText(absl::string_view text, bool keep_line_feeds) {
  std::string out;
  while (!text.empty()) {
    const CodePoint c = Decode(text);
    if (c.value == '\t') {
      out += ' ';  // harmless, but its width depends on where it stands
    } else if (!c.valid ||
               (c.value < 0x80 && IsUnsafe(c.value) && !(keep_line_feeds && c.value == '\n'))) {
      absl::StrAppendFormat(&out, "\\x%02x", c.value);
    } else if (IsUnsafe(c.value) && c.value != '\n') {
      absl::StrAppendFormat(&out, "\\u{%x}", c.value);
    } else {
      absl::StrAppend(&out, text.substr(0, c.length));
    }
    text.remove_prefix(c.length);
  }
  return out;
}

absl::string_view Code(Color color) {
  switch (color) {
    case Color::kRed:
      return "31";
    case Color::kGreen:
      return "32";
    case Color::kYellow:
      return "33";
    case Color::kBlue:
      return "34";
    case Color::kMagenta:
      return "35";
    case Color::kCyan:
      return "36";
    case Color::kDim:
      return "2";
    case Color::kBold:
      return "1";
  }
  return "0";
}

}  // namespace

std::string Escape(absl::string_view text) {
  return EscapeText(text, false);
}

std::string EscapeLines(absl::string_view text) {
  return EscapeText(text, true);
}

int DisplayWidth(absl::string_view text) {
  int width = 0;
  while (!text.empty()) {
    const CodePoint c = Decode(text);
    width += Columns(c.value);
    text.remove_prefix(c.length);
  }
  return width;
}

std::string Fit(absl::string_view text, int width) {
  if (DisplayWidth(text) <= width) {
    return std::string(text);
  }
  if (width <= 0) {
    return "";
  }
  std::string out;
  int used = 1;  // for the ellipsis
  while (!text.empty()) {
    const CodePoint c = Decode(text);
    used += Columns(c.value);
    if (used > width) {
      break;
    }
    absl::StrAppend(&out, text.substr(0, c.length));
    text.remove_prefix(c.length);
  }
  return absl::StrCat(out, "…");
}

std::string Pad(absl::string_view text, int width) {
  return absl::StrCat(text, std::string(std::max(0, width - DisplayWidth(text)), ' '));
}

std::string FormatBytes(uint64_t bytes) {
  if (bytes < 1000) {
    return absl::StrCat(bytes, " B");
  }
  constexpr std::array<const char*, 6> kUnits = {"kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  // 999.95 would be printed as 1000.0.
  while (value >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string FormatAge(absl::Duration age) {
  const int64_t seconds = std::max<int64_t>(0, absl::ToInt64Seconds(age));
  if (seconds < 60) {
    return absl::StrCat(seconds, "s");
  }
  if (seconds < 3600) {
    return absl::StrCat(seconds / 60, "m");
  }
  return seconds < 86400 ? absl::StrCat(seconds / 3600, "h") : absl::StrCat(seconds / 86400, "d");
}

std::string Paint(absl::string_view text, Color color, bool enabled) {
  return enabled ? absl::StrCat("\x1b[", Code(color), "m", text, "\x1b[0m") : std::string(text);
}

}  // namespace vibe::cli
