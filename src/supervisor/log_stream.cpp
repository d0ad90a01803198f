#include "supervisor/log_stream.h"

#include <algorithm>
#include <iterator>

#include "base/status.h"

namespace vibe::supervisor {
namespace {

// The loggers of two services write the same moment's lines at most this far apart.
constexpr absl::Duration kSettleTime = absl::Milliseconds(20);

bool Same(const logs::Record& a, const logs::Record& b) {
  return a.time == b.time && a.stream == b.stream && a.text == b.text;
}

// How many of the first records of `fresh` are the last ones of `tail`.
size_t Overlap(const std::vector<logs::Record>& tail, const std::vector<logs::Record>& fresh) {
  for (size_t count = std::min(tail.size(), fresh.size()); count > 0; --count) {
    if (std::equal(tail.end() - static_cast<std::ptrdiff_t>(count), tail.end(), fresh.begin(),
                   Same)) {
      return count;
    }
  }
  return 0;
}

void SortByTime(std::vector<ServiceLine>& lines) {
  std::stable_sort(lines.begin(), lines.end(), [](const ServiceLine& a, const ServiceLine& b) {
    return a.record.time < b.record.time;
  });
}

}  // namespace

LogStream::LogStream(const std::vector<std::pair<std::string, std::filesystem::path>>& files) {
  for (const auto& [service, file] : files) {
    sources_.push_back({service, file, logs::LogFollower(file), {}});
  }
}

absl::StatusOr<std::vector<ServiceLine>> LogStream::Tail(size_t count) {
  std::vector<ServiceLine> lines;
  for (Source& source : sources_) {
    VIBE_ASSIGN_OR_RETURN(source.tail, logs::ReadTail(source.file, count));
    for (const logs::Record& record : source.tail) {
      lines.push_back({source.service, record});
    }
  }
  SortByTime(lines);
  if (lines.size() > count) {
    lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(count));
  }
  return lines;
}

absl::StatusOr<std::vector<ServiceLine>> LogStream::Next(absl::Time now) {
  for (Source& source : sources_) {
    VIBE_ASSIGN_OR_RETURN(std::vector<logs::Record> fresh, source.follower.ReadNew());
    const size_t known = Overlap(source.tail, fresh);
    if (!fresh.empty()) {
      source.tail.clear();
    }
    for (size_t i = known; i < fresh.size(); ++i) {
      held_.push_back({source.service, std::move(fresh[i])});
    }
  }
  SortByTime(held_);
  const auto settled = std::find_if(held_.begin(), held_.end(), [&](const ServiceLine& line) {
    // A line from the future (the clock was set back) is not waited for.
    return line.record.time > now - kSettleTime && line.record.time <= now + kSettleTime;
  });
  std::vector<ServiceLine> lines(std::make_move_iterator(held_.begin()),
                                 std::make_move_iterator(settled));
  held_.erase(held_.begin(), settled);
  return lines;
}

}  // namespace vibe::supervisor
