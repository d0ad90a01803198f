// metadata.json of a snapshot and index.json of a project: see docs/formats/state.md. Values and
// their JSON; pure and thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace vibe::state {

inline constexpr int kSchemaVersion = 1;
inline constexpr size_t kMaxLabels = 64;
inline constexpr size_t kMaxLabelBytes = 256;  // a key, and a value
inline constexpr size_t kMaxMessageBytes = 4096;
inline constexpr size_t kMaxVolumes = 256;
inline constexpr size_t kMaxWarnings = 64;
inline constexpr size_t kMaxWarningBytes = 4096;
inline constexpr size_t kMaxLeftOutBytes = 16 << 10;  // of the paths, 64 more for each
inline constexpr size_t kMaxSnapshots = 10'000;       // of one project
inline constexpr uint64_t kMaxMetadataBytes = 1ULL << 20;
inline constexpr uint64_t kMaxIndexBytes = 4ULL << 20;

enum class Consistency { kGeneric, kSqlite, kPostgres };
absl::string_view ConsistencyName(Consistency consistency);  // "generic", "sqlite", "postgres"

enum class SnapshotReason { kManual, kAutosave, kBeforeUpgrade, kBeforeRestore };
absl::string_view SnapshotReasonName(SnapshotReason reason);  // "manual", "before-upgrade", …
std::optional<SnapshotReason> SnapshotReasonFromName(absl::string_view name);

struct VolumeManifest {
  Consistency consistency = Consistency::kGeneric;
  // Known when the snapshot is complete:
  uint64_t size_bytes = 0;
  std::string digest;           // "sha256:…"; empty when there is no such folder in the snapshot
  std::string integrity_check;  // sqlite: "ok" or "PATH: the first error"; empty without databases
  std::string dump_format;      // postgres: "pg_dump_custom" when dumps/NAME.dump is there
  bool raw_only = false;        // postgres: there is no dump, so no other major version can read it
  std::string problem;          // why raw_only, or what was left out; for the user

  friend bool operator==(const VolumeManifest&, const VolumeManifest&) = default;
};

struct SnapshotMetadata {
  std::string snapshot_id;  // UUID
  std::string project_id;
  absl::Time timestamp;  // whole milliseconds; when the instant was taken
  std::string
      parent_snapshot_id;  // what `current` came from; empty: nothing. May be deleted since.
  SnapshotReason reason = SnapshotReason::kManual;
  std::string app_version;
  std::string message;
  std::map<std::string, std::string> labels;
  std::map<std::string, VolumeManifest> volumes;
  std::string state_digest;           // empty until complete
  uint64_t size_bytes = 0;            // 0 until complete
  absl::Duration pause;               // that the app saw, whole microseconds
  absl::Duration pre_save;            // that the services' own hooks took before it, likewise
  std::vector<std::string> warnings;  // which of them did not do their work; for the user
  bool complete = false;              // digests and checks are in; never changed after that
  // The sockets and fifos in state/, by their paths (bytes) from its root; nullopt: not known.
  std::optional<std::vector<std::string>> left_out;
  std::string subvolume_uuid;      // of state/: a subvolume with another one is not this snapshot
  std::string source_uuid;         // of the `current` that it was taken from
  uint64_t source_generation = 0;  // that one's change_generation
  uint64_t generation = 0;         // transaction that made state/; orders the snapshots

  friend bool operator==(const SnapshotMetadata&, const SnapshotMetadata&) = default;
};

// InvalidArgument for what would not be read back: labels or texts that are too long or no UTF-8.
absl::Status CheckMetadata(const SnapshotMetadata& metadata);

std::string MetadataToJson(const SnapshotMetadata& metadata);
// DataLoss for what is no such document; FailedPrecondition, SNAPSHOT_MISMATCH when a newer version
// of the program wrote it. Keys that are unknown are passed by.
absl::StatusOr<SnapshotMetadata> MetadataFromJson(absl::string_view json);

struct SnapshotIndex {
  std::string project_id;
  std::vector<std::string> snapshot_ids;  // unique, oldest first
};
std::string IndexToJson(const SnapshotIndex& index);
absl::StatusOr<SnapshotIndex> IndexFromJson(absl::string_view json);  // errors as above

bool IsSnapshotId(absl::string_view text);  // a UUID in lower case

}  // namespace vibe::state
