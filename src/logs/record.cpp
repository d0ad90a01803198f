#include <string_view>

#include "absl/time/civil_time.h"
#include "logs/log_file.h"

namespace vibe::logs {

std::string FormatRecord(const Record& record) {
  std::string line;
  AppendRecordLine(absl::ToTimespec(record.time), record.stream, record.partial, record.text, line);
  return line;
}

absl::StatusOr<Record> ParseRecord(absl::string_view line) {
  const auto header = ParseLineHeader(std::string_view(line.data(), line.size()));
  if (!header) {
    return absl::InvalidArgumentError(
        "not a line of a log: those start with a time stamp, the stream, and F or P");
  }
  // The shape is known, and absl::ParseTime would take longer than all the rest.
  const auto number = [&](size_t at, size_t width) {
    int value = 0;
    for (const char digit : line.substr(at, width)) {
      value = value * 10 + (digit - '0');
    }
    return value;
  };
  const int month = number(5, 2), day = number(8, 2);
  const int hour = number(11, 2), minute = number(14, 2), second = number(17, 2);
  const absl::CivilSecond civil(number(0, 4), month, day, hour, minute, second);
  if (civil.month() != month || civil.day() != day || civil.hour() != hour ||
      civil.minute() != minute || civil.second() != second) {
    return absl::InvalidArgumentError("the line of a log has a time stamp that does not exist");
  }
  return Record{
      .time = absl::FromCivil(civil, absl::UTCTimeZone()) + absl::Nanoseconds(number(20, 9)),
      .stream = header->stream,
      .partial = header->partial,
      .text = std::string(line.substr(kLineHeaderBytes))};
}

}  // namespace vibe::logs
