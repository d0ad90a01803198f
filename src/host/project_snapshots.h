// The JSON of snapshots, and which of them a user means. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::host {

nlohmann::json SnapshotJson(const v1::Snapshot& snapshot);  // the schema Snapshot

// The id of the only snapshot that begins with `text`, of four characters at least, in upper or
// lower case. NOT_FOUND and InvalidArgument name it.
absl::StatusOr<std::string> ResolveSnapshotId(absl::string_view text,
                                              const std::vector<v1::Snapshot>& snapshots);

}  // namespace vibe::host
