#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "base/status.h"
#include "logs/log_segments.h"

namespace vibe::logs {
namespace {

constexpr int64_t kBlockBytes = 64 << 10;
// How far before the first wanted line the beginning of that line is looked for.
constexpr int64_t kMaxWalk = kMaxJoinedBytes + kBlockBytes;
constexpr size_t kRecordsInPiece = kMaxJoinedBytes / kMaxLineBytes;

struct Place {
  size_t segment = 0;
  int64_t offset = 0;
};

// Is shown the records from the last one on backwards, and says when there are enough.
class TailScan {
 public:
  explicit TailScan(size_t count) : count_(count) {}

  // `distance` is how far the record's start is from the end of the log.
  bool Done(const LineHeader& header, int64_t distance) {
    const size_t stream = header.stream == Stream::kStdout ? 0 : 1;
    if (lines_ >= count_) {
      // Lines may be interleaved: a stream's first line is complete where an earlier line of it
      // ends.
      complete_[stream] = complete_[stream] || !header.partial;
      return (complete_[0] && complete_[1]) || distance - enough_at_ > kMaxWalk;
    }
    if (!header.partial) {
      parts_[stream] = 0;
      ++lines_;
    } else if (++parts_[stream] == kRecordsInPiece) {
      parts_[stream] = 0;  // so much of a long line is a piece of its own
      ++lines_;
    }
    if (lines_ >= count_) {
      enough_at_ = distance;
    }
    return false;
  }

 private:
  const size_t count_;
  size_t lines_ = 0;
  size_t parts_[2] = {0, 0};
  bool complete_[2] = {false, false};
  int64_t enough_at_ = 0;
};

absl::StatusOr<std::string> ReadBlock(const Segment& segment, int64_t start, int64_t end) {
  std::string block(static_cast<size_t>(end - start), '\0');
  size_t have = 0;
  while (have < block.size()) {
    const ssize_t count = ::pread(segment.fd.get(), block.data() + have, block.size() - have,
                                  start + static_cast<int64_t>(have));
    if (count < 0 && errno != EINTR) {
      return ErrnoError(errno, "read the log");
    }
    if (count == 0) {
      break;
    }
    have += count > 0 ? static_cast<size_t>(count) : 0;
  }
  block.resize(have);
  return block;
}

// Where to start reading, so that the wanted lines come whole and last.
absl::StatusOr<Place> FindTail(const std::vector<Segment>& segments, size_t count) {
  TailScan scan(count);
  int64_t after = 0;  // bytes in the newer segments
  for (size_t i = segments.size(); i > 0; --i) {
    const Segment& segment = segments[i - 1];
    for (int64_t end = segment.size; end > 0;) {
      const int64_t start = std::max<int64_t>(0, end - kBlockBytes);
      const int64_t header_bytes = kLineHeaderBytes;  // of a line that starts where the block ends
      VIBE_ASSIGN_OR_RETURN(const std::string block,
                            ReadBlock(segment, start, std::min(segment.size, end + header_bytes)));
      const std::string_view bytes = block;
      // A line starts after each newline of the block, and at the start of the file.
      for (size_t at = std::min(bytes.size(), static_cast<size_t>(end - start)); at > 0;) {
        const size_t newline = bytes.substr(0, at).rfind('\n');
        const bool none = newline == std::string_view::npos;
        if (none && start > 0) {
          break;
        }
        const size_t line = none ? 0 : newline + 1;
        const auto header = ParseLineHeader(bytes.substr(line));
        const int64_t offset = start + static_cast<int64_t>(line);
        if (header && scan.Done(*header, after + segment.size - offset)) {
          return Place{i - 1, offset};
        }
        at = none ? 0 : newline;
      }
      end = start;
    }
    after += segment.size;
  }
  return Place{};
}

}  // namespace

absl::StatusOr<std::vector<Record>> ReadTail(const std::vector<Segment>& segments, size_t count,
                                             RecordJoiner& joiner) {
  VIBE_ASSIGN_OR_RETURN(const Place place, FindTail(segments, count));
  std::vector<Record> records;
  int64_t budget = std::numeric_limits<int64_t>::max();
  for (size_t i = place.segment; i < segments.size(); ++i) {
    SegmentReader reader{.offset = i == place.segment ? place.offset : 0};
    VIBE_RETURN_IF_ERROR(reader.Read(segments[i], segments[i].size, budget, joiner, records));
  }
  if (records.size() > count) {
    records.erase(records.begin(), records.end() - static_cast<std::ptrdiff_t>(count));
  }
  return records;
}

absl::StatusOr<std::vector<Record>> ReadTail(const std::filesystem::path& path, size_t count) {
  VIBE_ASSIGN_OR_RETURN(const std::vector<Segment> segments, OpenSegments(path));
  RecordJoiner joiner;
  return ReadTail(segments, count, joiner);
}

}  // namespace vibe::logs
