// SQLite databases in a volume: found by their first 16 bytes, checkpointed before a snapshot,
// checked after it.
//
// A volume's files are an app's, which may be hostile, and SQLite opens by name what lies beside a
// database (-wal, -shm, -journal). So no database is opened in the supervisor: a worker process
// does it, whose root is the volume, mounted for it alone without symlinks, devices and set-uid,
// under the uid and gid of the database's file, without capabilities, with limits of memory and
// time. The worst that such a file can do is to spoil its own volume or to fail its own check.
//
// The worker is a program that starts with
//   if (std::optional<int> code = SqliteWorkerMain(argc, argv)) return *code;
// vibe-supervisor is one.
//
// Thread-safe; blocking. The process needs to be root.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace vibe::state {

struct SqliteFile {
  std::string path;  // bytes, from the volume's root; no component is a symlink
  uint64_t size = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  uint64_t wal_size = 0;  // of the regular file PATH-wal; 0 without one

  friend bool operator==(const SqliteFile&, const SqliteFile&) = default;
};

struct SqliteScanLimits {
  size_t max_files = 1'000;              // databases
  uint64_t max_entries = 50'000'000;     // directory entries looked at
  int max_depth = 200;                   // folders below each other; deeper ones are passed by
  absl::Duration time = absl::Hours(1);  // on the clock; for a scan before a snapshot give less
};

struct SqliteScan {
  std::vector<SqliteFile> files;  // in byte order of their paths
  bool complete = true;           // false when a limit ended it: there may be more
};

// Looks at every regular file in `volume` (a directory; stays the caller's), nearest to its root
// first. What cannot be opened or vanishes meanwhile is passed by. Access times are left alone.
absl::StatusOr<SqliteScan> FindSqliteFiles(int volume, const SqliteScanLimits& limits = {});

struct SqliteWorkerOptions {
  std::filesystem::path program = "/proc/self/exe";  // see above
  absl::Duration timeout = absl::Seconds(10);        // for one database; then the worker is killed
  uint64_t max_memory = 512ULL << 20;                // address space; 0: no limit
  std::stop_token stop = {};                         // kills the worker: Cancelled
};

// Moves the -wal of `file` into its database as far as readers and writers let it, and waits at
// most `busy` for locks. Ok when nothing is left in it; Unavailable when others held locks: what is
// left is in the WAL, which is part of the snapshot. Any other error: the database could not be
// opened. A file without a WAL is not opened at all.
absl::Status CheckpointSqliteFile(int volume, const SqliteFile& file, absl::Duration busy,
                                  const SqliteWorkerOptions& options = {});

// PRAGMA integrity_check. `volume` must be writable and the caller's alone (a clone of the
// snapshot): a WAL or a hot journal is applied first. Answers "ok" or the first thing that is
// wrong; a database that cannot be opened, or that takes too long or too much memory, is an answer
// too. An error means that the worker could not be started.
absl::StatusOr<std::string> CheckSqliteFile(int volume, const SqliteFile& file,
                                            const SqliteWorkerOptions& options = {});

// What the worker process does instead of its program's own work: nullopt when `argv` does not ask
// for it, else the exit code.
std::optional<int> SqliteWorkerMain(int argc, char** argv);

}  // namespace vibe::state
