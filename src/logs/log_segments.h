// The files of one log, and reading them. Inside this folder only; not thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "logs/log_file.h"

namespace vibe::logs {

// One file of a log, open for reading. It stays readable when it is renamed or removed.
struct Segment {
  UniqueFd fd;
  dev_t device = 0;
  ino_t inode = 0;
  int64_t size = 0;   // when it was opened
  bool live = false;  // not rotated away, when it was opened

  bool SameFileAs(const Segment& other) const {
    return device == other.device && inode == other.inode;
  }
};

// All of them, oldest first, each once, even while the log rotates.
absl::StatusOr<std::vector<Segment>> OpenSegments(const std::filesystem::path& path);

// Puts the records of long lines together again.
class RecordJoiner {
 public:
  // A line that is no record is left out: only a damaged file has one.
  void Add(absl::string_view line, std::vector<Record>& out);

 private:
  std::optional<Record> pending_[2];  // by stream: a line that is not complete
};

// Reads one file forwards, whole lines only.
struct SegmentReader {
  int64_t offset = 0;     // all before is done
  bool skipping = false;  // within a line that is too long to be a record

  // Up to `end` or the end of the file, and not much more than `budget` bytes, of which it takes
  // what it read.
  absl::Status Read(const Segment& segment, int64_t end, int64_t& budget, RecordJoiner& joiner,
                    std::vector<Record>& out);
};

// The last `count` whole lines in `segments`, up to the sizes that these had. `joiner` keeps the
// lines that are not complete.
absl::StatusOr<std::vector<Record>> ReadTail(const std::vector<Segment>& segments, size_t count,
                                             RecordJoiner& joiner);

}  // namespace vibe::logs
