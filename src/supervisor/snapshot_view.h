// Between a project's manifest, its snapshots and what the contract says of them. Pure.
#pragma once

#include <map>
#include <string>

#include "manifest/manifest.h"
#include "state/snapshot_store.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::supervisor {

v1::Snapshot SnapshotView(const state::ListedSnapshot& listed);

// What is in each volume that the manifest declares.
std::map<std::string, state::Consistency> VolumesOf(const manifest::Manifest& manifest);

}  // namespace vibe::supervisor
