#include "supervisor/settle.h"

#include <fcntl.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "spdlog/spdlog.h"
#include "state/sqlite_files.h"

namespace vibe::supervisor {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(3);  // for all of a project's databases
constexpr absl::Duration kScanLimit = absl::Milliseconds(500);
constexpr absl::Duration kBusy = absl::Milliseconds(100);
constexpr size_t kMaxDatabases = 32;

}  // namespace

void SettleSqlite(const std::filesystem::path& volumes,
                  const std::map<std::string, state::Consistency>& kinds) {
  const absl::Time deadline = absl::Now() + kLimit;
  for (const auto& [name, kind] : kinds) {
    if (kind != state::Consistency::kSqlite) {
      continue;
    }
    const UniqueFd volume(
        ::open((volumes / name).c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!volume.valid()) {
      continue;  // nothing was kept yet
    }
    state::SqliteScanLimits limits;
    limits.max_files = kMaxDatabases;
    limits.time = kScanLimit;
    const auto scan = state::FindSqliteFiles(volume.get(), limits);
    if (!scan.ok()) {
      continue;
    }
    for (const state::SqliteFile& file : scan->files) {
      const absl::Duration left = deadline - absl::Now();
      if (file.wal_size == 0 || left <= absl::ZeroDuration()) {
        continue;
      }
      state::SqliteWorkerOptions worker;
      worker.timeout = left;
      const absl::Status status = state::CheckpointSqliteFile(volume.get(), file, kBusy, worker);
      spdlog::debug("checkpoint of {}/{}: {}", name, file.path, status.ToString());
    }
  }
}

}  // namespace vibe::supervisor
