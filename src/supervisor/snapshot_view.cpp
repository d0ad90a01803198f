#include "supervisor/snapshot_view.h"

#include "supervisor/project_view.h"

namespace vibe::supervisor {
namespace {

state::Consistency ConsistencyOf(manifest::Consistency consistency) {
  switch (consistency) {
    case manifest::Consistency::kSqlite:
      return state::Consistency::kSqlite;
    case manifest::Consistency::kPostgres:
      return state::Consistency::kPostgres;
    case manifest::Consistency::kGeneric:
      break;
  }
  return state::Consistency::kGeneric;
}

}  // namespace

v1::Snapshot SnapshotView(const state::ListedSnapshot& listed) {
  const state::SnapshotMetadata& metadata = listed.metadata;
  v1::Snapshot view;
  view.set_snapshot_id(metadata.snapshot_id);
  view.set_problem(listed.problem);
  if (!listed.problem.empty()) {
    return view;
  }
  *view.mutable_timestamp() = ToTimestamp(metadata.timestamp);
  view.set_parent_snapshot_id(metadata.parent_snapshot_id);
  view.set_reason(std::string(state::SnapshotReasonName(metadata.reason)));
  view.set_app_version(metadata.app_version);
  view.set_state_digest(metadata.state_digest);
  view.mutable_labels()->insert(metadata.labels.begin(), metadata.labels.end());
  view.set_size_bytes(metadata.size_bytes);
  view.set_message(metadata.message);
  view.set_pause_micros(static_cast<uint64_t>(absl::ToInt64Microseconds(metadata.pause)));
  view.set_pre_save_micros(static_cast<uint64_t>(absl::ToInt64Microseconds(metadata.pre_save)));
  view.mutable_warnings()->Add(metadata.warnings.begin(), metadata.warnings.end());
  view.set_complete(metadata.complete);
  for (const auto& [name, volume] : metadata.volumes) {
    v1::SnapshotVolume* shown = view.add_volumes();
    shown->set_name(name);
    shown->set_consistency(std::string(state::ConsistencyName(volume.consistency)));
    shown->set_size_bytes(volume.size_bytes);
    shown->set_digest(volume.digest);
    shown->set_integrity_check(volume.integrity_check);
    shown->set_dump_format(volume.dump_format);
    shown->set_raw_only(volume.raw_only);
    shown->set_problem(volume.problem);
  }
  return view;
}

std::map<std::string, state::Consistency> VolumesOf(const manifest::Manifest& manifest) {
  std::map<std::string, state::Consistency> volumes;
  for (const manifest::Volume& volume : manifest.state.volumes) {
    volumes[volume.name] = ConsistencyOf(volume.consistency);
  }
  return volumes;
}

}  // namespace vibe::supervisor
