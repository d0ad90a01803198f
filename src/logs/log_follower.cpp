#include <sys/stat.h>

#include <cerrno>
#include <deque>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "logs/log_segments.h"

namespace vibe::logs {
namespace {

constexpr int64_t kBytesPerCall = 4 << 20;
constexpr int64_t kToTheEnd = std::numeric_limits<int64_t>::max();

}  // namespace

struct LogFollower::Position {
  std::filesystem::path path;
  absl::Status broken;  // an error that the next call is to report
  std::vector<Segment>
      beginning;  // what was there at first, for ReadTail; empty after the first ReadNew
  bool begun = false;
  std::deque<Segment> segments;  // the first is being read, the others come after it
  SegmentReader reader;          // of the first
  RecordJoiner joiner;

  absl::Status Begin();
  absl::Status QueueNewer();
  absl::StatusOr<bool> Advance();
};

LogFollower::LogFollower(std::filesystem::path path) : position_(std::make_unique<Position>()) {
  position_->path = std::move(path);
  auto segments = OpenSegments(position_->path);
  position_->broken = segments.status();
  if (segments.ok()) {
    position_->beginning = *std::move(segments);
    // The first parts of lines that are not complete yet.
    position_->broken = logs::ReadTail(position_->beginning, 0, position_->joiner).status();
  }
}

LogFollower::~LogFollower() = default;
LogFollower::LogFollower(LogFollower&&) noexcept = default;

absl::StatusOr<std::vector<Record>> LogFollower::ReadTail(size_t count) {
  VIBE_RETURN_IF_ERROR(position_->broken);
  if (position_->begun) {
    return absl::FailedPreconditionError("the lines that came before are read first");
  }
  RecordJoiner joiner;
  return logs::ReadTail(position_->beginning, count, joiner);
}

// Goes on where the beginning ended: within its last file, after the last whole line.
absl::Status LogFollower::Position::Begin() {
  begun = true;
  if (!beginning.empty()) {
    Segment last = std::move(beginning.back());
    const int64_t margin = kMaxRecordBytes;
    // To find that line, the last records are read once more and forgotten.
    reader.offset = std::max<int64_t>(0, last.size - margin);
    reader.skipping = reader.offset > 0;
    RecordJoiner unused;
    std::vector<Record> old;
    int64_t budget = kToTheEnd;
    VIBE_RETURN_IF_ERROR(reader.Read(last, last.size, budget, unused, old));
    segments.push_back(std::move(last));
  }
  beginning.clear();
  return absl::OkStatus();
}

// Everything that is newer than the file being read; all there is when that is none of the log's
// files any more.
absl::Status LogFollower::Position::QueueNewer() {
  VIBE_ASSIGN_OR_RETURN(std::vector<Segment> all, OpenSegments(path));
  size_t first = 0;
  for (size_t i = 0; i < all.size() && !segments.empty(); ++i) {
    if (all[i].SameFileAs(segments.front())) {
      first = i + 1;
    }
  }
  for (size_t i = first; i < all.size(); ++i) {
    segments.push_back(std::move(all[i]));
  }
  return absl::OkStatus();
}

// After the end of a file: true when there is more to read.
absl::StatusOr<bool> LogFollower::Position::Advance() {
  if (segments.empty()) {
    VIBE_RETURN_IF_ERROR(QueueNewer());
    reader = {};
    return !segments.empty();
  }
  if (segments.size() == 1) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) {
      // Removed, or just about to be made again.
      return errno == ENOENT ? absl::StatusOr<bool>(false)
                             : ErrnoError(errno, absl::StrCat("look at ", path.string()));
    }
    const Segment& current = segments.front();
    if (info.st_dev == current.device && info.st_ino == current.inode) {
      const bool emptied = info.st_size < reader.offset;
      if (emptied) {
        reader = {};
        joiner = {};
      }
      return emptied;
    }
    VIBE_RETURN_IF_ERROR(QueueNewer());
    // Now that it has another name nothing is added to it. Something may have been, up to then.
    return segments.size() > 1;
  }
  segments.pop_front();
  reader = {};
  return true;
}

absl::StatusOr<std::vector<Record>> LogFollower::ReadNew() {
  Position& at = *position_;
  VIBE_RETURN_IF_ERROR(std::exchange(at.broken, absl::OkStatus()));
  if (!at.begun) {
    VIBE_RETURN_IF_ERROR(at.Begin());
  }
  std::vector<Record> records;
  int64_t budget = kBytesPerCall;
  absl::StatusOr<bool> more = true;
  while (more.ok() && *more && budget > 0) {
    absl::Status status;
    if (!at.segments.empty()) {
      status = at.reader.Read(at.segments.front(), kToTheEnd, budget, at.joiner, records);
    }
    if (!status.ok()) {
      more = status;
    } else if (budget > 0) {
      more = at.Advance();
    }
  }
  if (!more.ok() && records.empty()) {
    return more.status();
  }
  at.broken = more.status();  // what has been read already would be lost
  return records;
}

}  // namespace vibe::logs
