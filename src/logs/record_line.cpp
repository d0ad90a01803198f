#include "logs/record_line.h"

#include <algorithm>
#include <array>
#include <chrono>

namespace vibe::logs {
namespace {

constexpr std::string_view kTimeShape = "dddd-dd-ddTdd:dd:dd.dddddddddZ ";
constexpr size_t kStreamAt = kTimeShape.size();
constexpr size_t kStreamWidth = 6;  // of "stdout"
constexpr size_t kTagAt = kStreamAt + kStreamWidth + 1;
static_assert(kTagAt + 2 == kLineHeaderBytes);

void PutDigits(uint32_t value, size_t width, char* at) {
  for (size_t i = width; i > 0; --i) {
    at[i - 1] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
}

// gmtime_r would read the time zone database first.
void PutTime(const timespec& time, char* at) {
  const std::chrono::sys_seconds seconds{std::chrono::seconds(time.tv_sec)};
  const auto day = std::chrono::floor<std::chrono::days>(seconds);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(seconds - day);
  std::copy(kTimeShape.begin(), kTimeShape.end(), at);
  PutDigits(static_cast<uint32_t>(std::clamp(static_cast<int>(date.year()), 0, 9999)), 4, at);
  PutDigits(static_cast<unsigned>(date.month()), 2, at + 5);
  PutDigits(static_cast<unsigned>(date.day()), 2, at + 8);
  PutDigits(static_cast<uint32_t>(clock.hours().count()), 2, at + 11);
  PutDigits(static_cast<uint32_t>(clock.minutes().count()), 2, at + 14);
  PutDigits(static_cast<uint32_t>(clock.seconds().count()), 2, at + 17);
  PutDigits(static_cast<uint32_t>(time.tv_nsec), 9, at + 20);
}

}  // namespace

std::optional<LineHeader> ParseLineHeader(std::string_view line) {
  if (line.size() < kLineHeaderBytes) {
    return std::nullopt;
  }
  for (size_t i = 0; i < kTimeShape.size(); ++i) {
    const bool digit = line[i] >= '0' && line[i] <= '9';
    if (kTimeShape[i] == 'd' ? !digit : line[i] != kTimeShape[i]) {
      return std::nullopt;
    }
  }
  LineHeader header;
  const std::string_view stream = line.substr(kStreamAt, kStreamWidth + 1);
  if (stream == "stderr ") {
    header.stream = Stream::kStderr;
  } else if (stream != "stdout ") {
    return std::nullopt;
  }
  const std::string_view tag = line.substr(kTagAt, 2);
  header.partial = tag == "P ";
  return header.partial || tag == "F " ? std::optional(header) : std::nullopt;
}

void AppendRecordLine(const timespec& time, Stream stream, bool partial, std::string_view text,
                      std::string& out) {
  std::array<char, kLineHeaderBytes> header;
  PutTime(time, header.data());
  const std::string_view name = stream == Stream::kStdout ? "stdout " : "stderr ";
  std::copy(name.begin(), name.end(), header.begin() + kStreamAt);
  header[kTagAt] = partial ? 'P' : 'F';
  header[kTagAt + 1] = ' ';
  out.append(header.data(), header.size());
  const size_t start = out.size();
  out.append(text);
  std::replace(out.begin() + static_cast<std::ptrdiff_t>(start), out.end(), '\n', ' ');
  out.push_back('\n');
}

}  // namespace vibe::logs
