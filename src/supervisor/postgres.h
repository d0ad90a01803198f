// What Postgres needs around a snapshot: a checkpoint before it, so that the clone has little to
// recover, and a dump from a clone of it, which any later major version can read. Thread-safe;
// blocking.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "state/snapshot_store.h"
#include "supervisor/plan.h"
#include "supervisor/service_container.h"

namespace vibe::supervisor {

// The service whose container has the volume, with the path that it has there; null when none has.
struct VolumeUser {
  const PlannedService* service = nullptr;
  std::string path;
};
VolumeUser FindVolumeUser(const Plan& plan, const std::string& volume);

// The name that the image makes its superuser with: POSTGRES_USER, else "postgres".
std::string Superuser(const PlannedService& service);

// Dumps every database of a Postgres volume of a snapshot: a Postgres of the volume's own image
// runs on a clone of it, reached by nobody else. Gives the path of a file in the store's staging
// folder: a tar with globals.sql (roles), databases (their names, one a line) and N.dump, the N-th
// one's dump in pg_dump's custom format. `volume_user.service` and its plan stay the caller's.
absl::StatusOr<std::filesystem::path> DumpPostgres(const Platform& platform, const Plan& plan,
                                                   const VolumeUser& volume_user,
                                                   state::SnapshotStore& store,
                                                   const std::string& snapshot_id,
                                                   const std::string& volume, std::stop_token stop);

// What MatchPostgresVersion would refuse, of a state that may be read-only, when there is no dump:
// `no_dump` says why. `work`: a folder to be made, and removed again, for what the image says.
absl::Status CheckPostgresVersion(const Platform& platform, const Plan& plan,
                                  const VolumeUser& volume_user, const std::filesystem::path& state,
                                  const std::string& volume, const absl::Status& no_dump,
                                  const std::filesystem::path& work);

// Before a snapshot's clone becomes a project's state: when the cluster in its volume is of another
// major version than the volume's image, it is replaced by a new one with what `dump` holds.
// FailedPrecondition when there is no dump (its status is in the message). `state` is the clone's
// root; an error leaves it unusable.
absl::Status MatchPostgresVersion(const Platform& platform, const Plan& plan,
                                  const VolumeUser& volume_user, const std::filesystem::path& state,
                                  const std::string& volume,
                                  const absl::StatusOr<std::filesystem::path>& dump,
                                  std::stop_token stop);

}  // namespace vibe::supervisor
