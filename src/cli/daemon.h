// vibed as seen from outside: whether it runs, and starting it. Thread-safe; blocking.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace vibe::cli {

struct DaemonVersion {
  std::string version;
  int64_t pid = 0;
  std::string home;
};

std::filesystem::path SocketPath(const std::filesystem::path& home);

// Unavailable when none runs for this home.
absl::StatusOr<DaemonVersion> FindDaemon(const std::filesystem::path& home);

struct LaunchOptions {
  std::filesystem::path home;
  std::filesystem::path program;  // vibed
  absl::Duration timeout = absl::Seconds(10);
  std::function<bool()> cancelled;  // asked often; may be empty
  std::function<void()> on_launch;  // called when there is none and it is started; may be empty
};

// The one that runs, or a new one: detached, in a session of its own, with VIBE_HOME set. When it
// does not answer in time, the error carries what it wrote to its log.
absl::StatusOr<DaemonVersion> EnsureDaemon(const LaunchOptions& options);

// vibed beside this program's own file; "vibed" when that is not known.
std::filesystem::path DaemonProgram();

}  // namespace vibe::cli
