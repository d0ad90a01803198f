#include "host/project_snapshots.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/random.h"
#include "base/status.h"
#include "host/project_record.h"
#include "host/project_view.h"
#include "host/projects.h"
#include "spdlog/spdlog.h"

namespace vibe::host {
namespace {

using nlohmann::json;

constexpr size_t kShortestPrefix = 4;

json VolumeJson(const v1::SnapshotVolume& volume) {
  return {{"name", volume.name()},
          {"consistency", volume.consistency()},
          {"sizeBytes", volume.size_bytes()},
          {"digest", volume.digest()},
          {"integrityCheck", volume.integrity_check()},
          {"dumpFormat", volume.dump_format()},
          {"rawOnly", volume.raw_only()},
          {"problem", volume.problem()}};
}

absl::Status Taken(const std::string& name) {
  return WithAdvice(Error(absl::StatusCode::kAlreadyExists, Reason::kConflict,
                          absl::StrCat("there is a project ", name, " already")),
                    "choose another name");
}

}  // namespace

json SnapshotJson(const v1::Snapshot& snapshot) {
  json volumes = json::array();
  for (const v1::SnapshotVolume& volume : snapshot.volumes()) {
    volumes.push_back(VolumeJson(volume));
  }
  json labels = json::object();
  for (const auto& [key, value] : snapshot.labels()) {
    labels[key] = value;
  }
  return {{"id", snapshot.snapshot_id()},
          {"time", snapshot.has_timestamp() ? TimeJson(snapshot.timestamp()) : json()},
          {"parent", snapshot.parent_snapshot_id()},
          {"reason", snapshot.reason()},
          {"appVersion", snapshot.app_version()},
          {"message", snapshot.message()},
          {"labels", labels},
          {"complete", snapshot.complete()},
          {"sizeBytes", snapshot.size_bytes()},
          {"stateDigest", snapshot.state_digest()},
          {"pauseMicros", snapshot.pause_micros()},
          {"preSaveMicros", snapshot.pre_save_micros()},
          {"warnings",
           std::vector<std::string>(snapshot.warnings().begin(), snapshot.warnings().end())},
          {"problem", snapshot.problem()},
          {"volumes", volumes}};
}

absl::StatusOr<std::string> ResolveSnapshotId(absl::string_view text,
                                              const std::vector<v1::Snapshot>& snapshots) {
  if (text.size() < kShortestPrefix) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is too short for a snapshot: give ", kShortestPrefix,
                     " characters of its id at least"));
  }
  std::vector<std::string> found;
  for (const v1::Snapshot& snapshot : snapshots) {
    if (absl::StartsWithIgnoreCase(snapshot.snapshot_id(), text)) {
      found.push_back(snapshot.snapshot_id());
    }
  }
  if (found.size() == 1) {
    return found[0];
  }
  return found.empty() ? Error(absl::StatusCode::kNotFound, Reason::kNotFound,
                               absl::StrCat("there is no snapshot ", text))
                       : absl::InvalidArgumentError(absl::StrCat(text, " is the beginning of ",
                                                                 found.size(), " snapshots' ids"));
}

// ---- the operations of Projects

absl::StatusOr<std::string> Projects::SnapshotId(const ProjectRecord& record,
                                                 const std::string& text, Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(const auto snapshots, world_.supervisor.ListSnapshots(record.id, cancel));
  absl::StatusOr<std::string> id = ResolveSnapshotId(text, snapshots);
  return id.ok() ? id
                 : WithAdvice(id.status(), absl::StrCat("see `vibe snapshots ", record.name, "`"));
}

absl::StatusOr<Projects::Json> Projects::Snapshots(const std::string& ref, Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(const ProjectRecord record, world_.library.Find(ref));
  if (!MachineIsUp()) {
    // Booting it would start every app that ran: more than a look at a list may do.
    return WithAdvice(Error(absl::StatusCode::kFailedPrecondition, Reason::kNotRunning,
                            absl::StrCat("the snapshots of ", record.name,
                                         " are in the machine, which is stopped")),
                      "start it with `vibe machine start`");
  }
  VIBE_ASSIGN_OR_RETURN(const auto snapshots, world_.supervisor.ListSnapshots(record.id, cancel));
  Json list = Json::array();
  for (const v1::Snapshot& snapshot : snapshots) {
    list.push_back(SnapshotJson(snapshot));
  }
  return list;
}

absl::StatusOr<Projects::Json> Projects::Save(const std::string& ref, const SaveOptions& options,
                                              const ProgressSink& progress, Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(ProjectRecord record, world_.library.Find(ref));
  VIBE_ASSIGN_OR_RETURN(const auto held, Lock(record.name, "save", cancel));
  VIBE_ASSIGN_OR_RETURN(record, world_.library.Find(record.id));
  VIBE_RETURN_IF_ERROR(EnsureMachine(progress, cancel));
  v1::SaveSnapshotRequest request;
  request.set_id(record.id);
  request.set_message(options.message);
  request.mutable_labels()->insert(options.labels.begin(), options.labels.end());
  request.set_skip_hooks(options.skip_hooks);
  VIBE_ASSIGN_OR_RETURN(const v1::Snapshot snapshot,
                        world_.supervisor.SaveSnapshot(request, Forward(progress), cancel));
  Json saved = SnapshotJson(snapshot);
  saved["diskWarning"] = DiskWarning();
  return saved;
}

absl::StatusOr<std::string> Projects::DeleteSnapshot(const std::string& ref,
                                                     const std::string& snapshot,
                                                     const ProgressSink& progress,
                                                     Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(ProjectRecord record, world_.library.Find(ref));
  VIBE_ASSIGN_OR_RETURN(const auto held, Lock(record.name, "snapshot rm", cancel));
  VIBE_ASSIGN_OR_RETURN(record, world_.library.Find(record.id));
  VIBE_RETURN_IF_ERROR(EnsureMachine(progress, cancel));
  VIBE_ASSIGN_OR_RETURN(std::string id, SnapshotId(record, snapshot, cancel));
  VIBE_RETURN_IF_ERROR(world_.supervisor.DeleteSnapshot(record.id, id, cancel));
  return id;
}

absl::StatusOr<Projects::Json> Projects::Restore(const std::string& ref,
                                                 const RestoreOptions& options,
                                                 const ProgressSink& progress,
                                                 Cancellation& cancel) {
  VIBE_ASSIGN_OR_RETURN(ProjectRecord record, world_.library.Find(ref));
  VIBE_ASSIGN_OR_RETURN(const auto held, Lock(record.name, "restore", cancel));
  VIBE_ASSIGN_OR_RETURN(record, world_.library.Find(record.id));
  VIBE_RETURN_IF_ERROR(EnsureMachine(progress, cancel));
  v1::RestoreSnapshotRequest request;
  request.set_id(record.id);
  VIBE_ASSIGN_OR_RETURN(*request.mutable_snapshot_id(),
                        SnapshotId(record, options.snapshot, cancel));
  request.set_skip_safety_snapshot(!options.safety);
  request.set_verify(options.verify);
  request.set_skip_hooks(options.skip_hooks);
  const auto restored = world_.supervisor.RestoreSnapshot(request, Forward(progress), cancel);
  if (!restored.ok()) {
    Cancellation again;  // that of the request may be why it failed
    if (const auto live = FindLive(record.id, again); live.ok() && *live) {
      if (const absl::Status status = FollowVersion(record, **live); !status.ok()) {
        spdlog::warn("project {}: its version is not recorded: {}", record.name, status.ToString());
      }
      MatchPorts(record, **live);
    }
    return restored.status();
  }
  const std::string version = record.app_version;
  VIBE_RETURN_IF_ERROR(FollowVersion(record, restored->project()));
  MatchPorts(record, restored->project());
  VIBE_ASSIGN_OR_RETURN(Json project, ViewNow(record.id, restored->project()));
  return Json{{"project", std::move(project)},
              {"restored", request.snapshot_id()},
              {"replacedVersion", version == record.app_version ? "" : version},
              {"safetySnapshot", restored->safety_snapshot_id()},
              {"warnings", restored->warnings()}};
}

// The copy is recorded as one that is to be removed until it is there: a crash leaves nothing that
// looks like a project and is none.
absl::StatusOr<Projects::Json> Projects::Duplicate(const std::string& ref,
                                                   const DuplicateOptions& options,
                                                   const ProgressSink& progress,
                                                   Cancellation& cancel) {
  VIBE_RETURN_IF_ERROR(CheckProjectName(options.name));
  VIBE_ASSIGN_OR_RETURN(ProjectRecord record, world_.library.Find(ref));
  if (const auto other = world_.library.Find(options.name);
      other.ok() && (other->id == record.id || !IsRemoval(other->pending))) {
    return Taken(options.name);
  }
  VIBE_ASSIGN_OR_RETURN(const auto held, Lock(record.name, "duplicate", cancel));
  VIBE_ASSIGN_OR_RETURN(const auto held_copy, Lock(options.name, "duplicate", cancel));
  VIBE_ASSIGN_OR_RETURN(record, world_.library.Find(record.id));
  if (const auto other = world_.library.Find(options.name); other.ok()) {
    if (!IsRemoval(other->pending)) {
      return Taken(options.name);
    }
    VIBE_RETURN_IF_ERROR(
        RemoveLocked(*other, other->pending == Pending::kRemoveKeepingData, progress, cancel));
  }
  VIBE_RETURN_IF_ERROR(EnsureMachine(progress, cancel));
  v1::DuplicateProjectRequest request;
  request.set_id(record.id);
  request.set_new_id(RandomUuid());
  request.set_new_name(options.name);
  if (!options.snapshot.empty()) {
    VIBE_ASSIGN_OR_RETURN(*request.mutable_snapshot_id(),
                          SnapshotId(record, options.snapshot, cancel));
  }
  ProjectRecord copy = record;
  copy.id = request.new_id();
  copy.name = options.name;
  copy.created_at = absl::Now();
  copy.removed = false;
  copy.pending = Pending::kRemove;
  copy.decisions = {};
  for (RecordedService& service : copy.services) {
    for (RecordedPort& port : service.ports) {
      port.host_port = 0;
    }
  }
  VIBE_RETURN_IF_ERROR(world_.library.Put(copy));
  const auto live = world_.supervisor.DuplicateProject(request, Forward(progress), cancel);
  if (!live.ok()) {
    Cancellation again;
    // What was cancelled may still be under way: the machine deletes it when it is over. Until that
    // was heard, the copy is pending.
    if (world_.supervisor.DeleteProject(copy.id, /*delete_data=*/true, again).ok()) {
      VIBE_RETURN_IF_ERROR(world_.library.Remove(copy.id));
    }
    return StrayInTheWay(live.status(), options.name);
  }
  copy.pending = Pending::kNone;
  VIBE_RETURN_IF_ERROR(world_.library.Put(copy));
  VIBE_RETURN_IF_ERROR(FollowVersion(copy, *live));
  return ViewNow(copy.id, *live);
}

}  // namespace vibe::host
