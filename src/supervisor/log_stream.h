// The output of a project's services as one stream in time order: the last lines, then new ones as
// they come. Not thread-safe; one object per reader.
#pragma once

#include <deque>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "logs/log_file.h"

namespace vibe::supervisor {

struct ServiceLine {
  std::string service;
  logs::Record record;
};

class LogStream {
 public:
  // Service and file. Lines that are written from now on will be seen by Next.
  explicit LogStream(const std::vector<std::pair<std::string, std::filesystem::path>>& files);

  // The last `count` lines of all services together. Called once, before Next.
  absl::StatusOr<std::vector<ServiceLine>> Tail(size_t count);

  // What came since, oldest first; empty when nothing did. Does not block. Lines of the last moment
  // are held back, since an older one of another service may still come.
  absl::StatusOr<std::vector<ServiceLine>> Next(absl::Time now);

 private:
  struct Source {
    std::string service;
    std::filesystem::path file;
    logs::LogFollower follower;
    std::vector<logs::Record> tail;  // what Tail read: the follower meets the newest of it again
  };
  std::vector<Source> sources_;
  std::vector<ServiceLine> held_;
};

}  // namespace vibe::supervisor
