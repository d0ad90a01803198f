#include "logs/log_segments.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace vibe::logs {
namespace {

constexpr size_t kBlockBytes = 64 << 10;
static_assert(kBlockBytes > kMaxRecordBytes);
constexpr int kOpenAttempts =
    20;  // a log that rotates more often while it is opened is not followed anyway

absl::StatusOr<Segment> OpenSegment(const std::filesystem::path& path) {
  Segment segment;
  segment.fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat info {};
  if (!segment.fd.valid() || ::fstat(segment.fd.get(), &info) != 0) {
    return ErrnoError(errno, absl::StrCat("open the log ", path.string()));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path.string(), " is not a file"));
  }
  segment.device = info.st_dev;
  segment.inode = info.st_ino;
  segment.size = info.st_size;
  return segment;
}

// Newest first. Nothing when a file was met twice: it was renamed in between.
absl::StatusOr<std::optional<std::vector<Segment>>> TryOpenSegments(
    const std::filesystem::path& path) {
  std::vector<Segment> segments;
  for (int number = 0; number <= kMaxRotated; ++number) {
    auto segment =
        OpenSegment(number == 0 ? path.string() : absl::StrCat(path.string(), ".", number));
    if (absl::IsNotFound(segment.status())) {
      continue;  // there may be a gap while the log rotates
    }
    VIBE_RETURN_IF_ERROR(segment.status());
    segment->live = number == 0;
    for (const Segment& other : segments) {
      if (other.SameFileAs(*segment)) {
        return std::nullopt;
      }
    }
    segments.push_back(*std::move(segment));
  }
  return segments;
}

}  // namespace

absl::StatusOr<std::vector<Segment>> OpenSegments(const std::filesystem::path& path) {
  for (int attempt = 0; attempt < kOpenAttempts; ++attempt) {
    VIBE_ASSIGN_OR_RETURN(auto segments, TryOpenSegments(path));
    if (segments) {
      std::reverse(segments->begin(), segments->end());
      return *std::move(segments);
    }
  }
  return absl::UnavailableError(
      absl::StrCat("the log ", path.string(), " rotates too fast to be read"));
}

void RecordJoiner::Add(absl::string_view line, std::vector<Record>& out) {
  auto record = ParseRecord(line);
  if (!record.ok()) {
    return;
  }
  std::optional<Record>& pending = pending_[record->stream == Stream::kStdout ? 0 : 1];
  if (pending) {
    pending->text += record->text;
    pending->partial = record->partial;
  } else {
    pending = *std::move(record);
  }
  if (!pending->partial || pending->text.size() >= kMaxJoinedBytes) {
    out.push_back(*std::move(pending));
    pending.reset();
  }
}

absl::Status SegmentReader::Read(const Segment& segment, int64_t end, int64_t& budget,
                                 RecordJoiner& joiner, std::vector<Record>& out) {
  const auto block = std::make_unique_for_overwrite<char[]>(kBlockBytes);
  while (budget > 0 && offset < end) {
    const size_t wanted = static_cast<size_t>(std::min<int64_t>(kBlockBytes, end - offset));
    const ssize_t count = ::pread(segment.fd.get(), block.get(), wanted, offset);
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoError(errno, "read the log");
    }
    budget -= count;
    const absl::string_view bytes(block.get(), static_cast<size_t>(count));
    size_t done = 0;
    for (size_t newline; (newline = bytes.find('\n', done)) != absl::string_view::npos;
         done = newline + 1) {
      if (!std::exchange(skipping, false)) {
        joiner.Add(bytes.substr(done, newline - done), out);
      }
    }
    if (bytes.size() - done > kMaxRecordBytes) {
      skipping = true;
    }
    if (skipping) {
      done = bytes.size();
    }
    offset += static_cast<int64_t>(done);
    if (done == 0) {
      break;  // half a line: the rest is to come
    }
  }
  return absl::OkStatus();
}

}  // namespace vibe::logs
