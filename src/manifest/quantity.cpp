#include "manifest/quantity.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace vibe::manifest {
namespace {

constexpr double kYearMs = 366.0 * 24 * 3600 * 1000;
constexpr double kMaxBytes = 1152921504606846976.0;  // 2^60
constexpr size_t kMaxNumber = 32;

// Cuts "12" or "1.5" off the front.
std::optional<double> TakeDecimal(absl::string_view& text) {
  const auto is_digit = [](unsigned char c) { return absl::ascii_isdigit(c); };
  const auto* whole = std::find_if_not(text.begin(), text.end(), is_digit);
  const auto* end = whole;
  if (whole != text.end() && *whole == '.') {
    end = std::find_if_not(whole + 1, text.end(), is_digit);
    if (end == whole + 1) {
      return std::nullopt;
    }
  }
  const auto length = static_cast<size_t>(end - text.begin());
  double value = 0;
  if (whole == text.begin() || length > kMaxNumber ||
      !absl::SimpleAtod(text.substr(0, length), &value)) {
    return std::nullopt;
  }
  text.remove_prefix(length);
  return value;
}

// Cuts a unit off the front; in milliseconds.
std::optional<double> TakeDurationUnit(absl::string_view& text) {
  struct Unit {
    absl::string_view name;
    double milliseconds;
  };
  // The longer name first where one starts with the other.
  static constexpr Unit kUnits[] = {{"ms", 1},          {"us", 1e-3},    {"µs", 1e-3}, {"ns", 1e-6},
                                    {"h", 3'600'000.0}, {"m", 60'000.0}, {"s", 1'000}};
  for (const Unit& unit : kUnits) {
    if (absl::StartsWith(text, unit.name)) {
      text.remove_prefix(unit.name.size());
      return unit.milliseconds;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> ParseDurationMs(absl::string_view text) {
  if (text.empty()) {
    return std::nullopt;
  }
  double total = 0;
  while (!text.empty()) {
    const std::optional<double> number = TakeDecimal(text);
    const std::optional<double> unit = number ? TakeDurationUnit(text) : std::nullopt;
    if (!unit) {
      return std::nullopt;
    }
    total += *number * *unit;
    if (total > kYearMs) {
      return std::nullopt;
    }
  }
  // What a double cannot hold exactly must not become a millisecond more.
  return static_cast<int64_t>(std::ceil(total - 1e-7));
}

std::string DurationText(int64_t milliseconds) {
  return milliseconds % 1000 == 0 ? absl::StrCat(milliseconds / 1000, "s")
                                  : absl::StrCat(milliseconds, "ms");
}

std::optional<int64_t> ParseBytes(absl::string_view text) {
  const std::optional<double> number = TakeDecimal(text);
  if (!number) {
    return std::nullopt;
  }
  const std::string unit = absl::AsciiStrToLower(text);
  constexpr absl::string_view kPrefixes = "kmgt";
  double factor = 1;
  if (!unit.empty() && unit != "b") {
    const size_t power = kPrefixes.find(unit[0]);
    const absl::string_view rest = absl::string_view(unit).substr(1);
    if (power == absl::string_view::npos ||
        (!rest.empty() && rest != "b" && rest != "ib" && rest != "i")) {
      return std::nullopt;
    }
    factor = std::ldexp(1.0, static_cast<int>(10 * (power + 1)));
  }
  const double bytes = std::ceil(*number * factor);
  return bytes > kMaxBytes ? std::nullopt : std::optional(static_cast<int64_t>(bytes));
}

std::optional<double> ParseDecimal(absl::string_view text) {
  const std::optional<double> number = TakeDecimal(text);
  return text.empty() ? number : std::nullopt;
}

std::optional<int64_t> ParseWhole(absl::string_view text) {
  int64_t value = 0;
  const absl::string_view digits = absl::StartsWith(text, "-") ? text.substr(1) : text;
  if (digits.empty() || !std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit) ||
      (digits.size() > 1 && digits[0] == '0') || !absl::SimpleAtoi(text, &value)) {
    return std::nullopt;
  }
  return value;
}

}  // namespace vibe::manifest
