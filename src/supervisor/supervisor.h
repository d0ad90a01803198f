// All projects of the machine: what the store remembers, what runs, what packages and images are
// here. The gRPC service (grpc_service.h) is a thin shell around this class.
//
// Thread-safe. Calls for one project exclude each other where they change it; others run side by
// side.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "containerd/client.h"
#include "images/images.h"
#include "network/network.h"
#include "oci/registry.h"
#include "relay/stream_header.h"
#include "state/snapshot_store.h"
#include "supervisor/disk_space.h"
#include "supervisor/event_bus.h"
#include "supervisor/host_network.h"
#include "supervisor/package_store.h"
#include "supervisor/project_firewall.h"
#include "supervisor/project_runtime.h"
#include "supervisor/project_store.h"
#include "supervisor/service_container.h"
#include "supervisor/snapshot_completion.h"
#include "supervisor/thread_set.h"
#include "supervisor/working_room.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::supervisor {

// In `current`: the supervisor's own folder, and in it what says that the services' postRestore
// hooks have yet to run.
inline constexpr char kRuntime[] = "runtime";
inline constexpr char kRestoredMark[] = "restored";
// Names the snapshot that this state came from with another version of the app, until the
// project's record has followed.
inline constexpr char kVersionMark[] = "version";

class AutosaveClock;

class Supervisor {
 public:
  struct Options {
    std::filesystem::path data;  // persistent: projects, packages, logs, supervisor.db
    std::filesystem::path run;   // volatile
    std::string containerd_socket;
    std::string runtime;  // path of crun or runc
    std::string logger;   // path of vibe-logger
    std::string cgroup;   // parent of all services' cgroups
    std::filesystem::path cni_plugins = "/usr/lib/cni";
    // A folder on the file system that holds the data disk's file; empty when it is out of reach.
    std::filesystem::path disk_host;
    oci::RegistryOptions registry;
    network::FirewallOptions firewall;
  };

  static absl::StatusOr<std::unique_ptr<Supervisor>> Open(Options options);
  ~Supervisor();  // ends the watching; containers run on

  // Brings back, in the background, every project that was running when the supervisor or the
  // machine ended.
  void Recover();

  absl::StatusOr<v1::Project> EnsureProject(const v1::EnsureProjectRequest& request,
                                            const std::function<bool()>& cancelled);
  absl::StatusOr<v1::Project> OpenProject(const std::string& id, const ProgressSink& progress,
                                          const std::function<bool()>& cancelled);
  absl::StatusOr<v1::Project> StartProject(const std::string& id,
                                           const std::map<std::string, std::string>& secrets,
                                           const ProgressSink& progress,
                                           const std::function<bool()>& cancelled);
  absl::StatusOr<v1::Project> StopProject(const std::string& id, absl::Duration timeout,
                                          const ProgressSink& progress);
  absl::Status DeleteProject(const std::string& id, bool delete_data);
  // Holds at once for what runs, in both directions: connections that are open already included.
  absl::StatusOr<v1::Project> SetGrants(const std::string& id, const v1::Grants& grants);
  absl::StatusOr<v1::Project> GetProject(const std::string& id);
  absl::StatusOr<std::vector<v1::Project>> ListProjects();
  // What the host's own addresses are: out of every project's reach when this returns. Without
  // them, and with what cannot be taken, nobody has the internet until they are known again.
  absl::Status SetHostNetwork(const v1::SetHostNetworkRequest& request);

  // Snapshots (supervisor_snapshots.cpp, supervisor_restore.cpp). A save returns when the snapshot
  // is on the disk; what is found out about it later is in the list.
  absl::StatusOr<v1::Snapshot> SaveSnapshot(const v1::SaveSnapshotRequest& request,
                                            const ProgressSink& progress,
                                            const std::function<bool()>& cancelled);
  absl::StatusOr<std::vector<v1::Snapshot>> ListSnapshots(const std::string& id);
  absl::Status DeleteSnapshot(const std::string& id, const std::string& snapshot_id);
  struct Restored {
    v1::Project project;
    std::string safety_snapshot_id;     // empty when it was refused
    std::vector<std::string> warnings;  // volumes that only the snapshot or only the version has
  };
  absl::StatusOr<Restored> RestoreSnapshot(const v1::RestoreSnapshotRequest& request,
                                           const ProgressSink& progress,
                                           const std::function<bool()>& cancelled);
  absl::StatusOr<v1::Project> DuplicateProject(const v1::DuplicateProjectRequest& request,
                                               const ProgressSink& progress,
                                               const std::function<bool()>& cancelled);

  absl::StatusOr<v1::ResolvePortsResponse> ResolvePorts(const std::string& id);
  // Where a forwarded connection goes; PermissionDenied for a port that is not exposed,
  // NOT_RUNNING, Unavailable while it is not known yet whether it runs.
  struct Target {
    std::vector<std::string> addresses;  // IPv4 first: to be tried in this order
    uint16_t port = 0;
  };
  absl::StatusOr<Target> ForwardTarget(const relay::StreamHeader& header);

  // The log files of one service, or of all when `service` is empty.
  absl::StatusOr<std::vector<std::pair<std::string, std::filesystem::path>>> LogFiles(
      const std::string& id, const std::string& service);

  // The containerd namespace and container of a service that runs; NOT_RUNNING otherwise.
  struct RunningContainer {
    std::string ns, container_id;
  };
  absl::StatusOr<RunningContainer> FindRunning(const std::string& id, const std::string& service);

  // Stops every project but remembers that they were running.
  absl::Status Shutdown(absl::Duration timeout);

  // Answers within half a second, whatever containerd does.
  v1::HealthResponse Health();
  absl::StatusOr<v1::DiskUsageResponse> DiskUsage();
  absl::StatusOr<v1::ListImagesResponse> ListImages();
  // Images that no project's manifest names any more. Projects that are being worked on are passed
  // over.
  absl::StatusOr<v1::PruneImagesResponse> PruneImages();

  PackageStore& packages() { return packages_; }
  // DISK_LOW when nothing that takes space, and not that much for sure, is to be begun.
  absl::Status CheckSpace(uint64_t needed = 0) const;
  // For what frees space or ends something, and has to work on a full disk.
  WorkingRoom& working_room() { return working_room_; }
  EventBus& events() { return events_; }
  containerd::Client& containerd() { return containerd_; }
  const std::filesystem::path& run_directory() const { return options_.run; }
  const std::filesystem::path& data_directory() const { return options_.data; }

 private:
  // A project's in-memory part. Lives as long as the project.
  struct Entry {
    absl::Mutex operation;       // open, start, stop, save, restore, delete exclude each other
    std::atomic<int> stops = 0;  // and deletions that wait for it: an autosave gives way to them
    absl::Mutex mutex;
    std::shared_ptr<ProjectRuntime> runtime ABSL_GUARDED_BY(mutex);  // null: not started since boot
    absl::Mutex state_mutex;  // held while a store is opened, which may have to tidy up
    std::shared_ptr<state::SnapshotStore> snapshots ABSL_GUARDED_BY(state_mutex);
    absl::Mutex listing;  // written by a save: from before the new snapshot to after the pruning
  };
  struct SaveCall {
    state::SaveRequest request;
    bool skip_hooks = false;
    bool hooks_must_pass = false;   // else the snapshot is taken all the same, with a warning
    std::string hook_advice;        // what to do when one does not
    std::vector<std::string> keep;  // are not pruned for the new one
    bool keep_version = false;      // the record's, as long as the snapshot
    std::function<bool()> cancelled = [] { return false; };
  };
  struct PreSave {
    absl::Duration took;
    std::vector<std::string> warnings;  // which hooks did not do their work, and why
  };

  Supervisor(Options options, std::unique_ptr<ProjectStore> store);

  static absl::Status CheckIdentity(const std::string& id, const std::string& name);
  static absl::StatusOr<manifest::Manifest> ManifestOf(const ProjectRecord& record);
  absl::StatusOr<ProjectRecord> Record(const std::string& id);
  std::shared_ptr<Entry> EntryOf(const std::string& id);
  std::shared_ptr<ProjectRuntime> RuntimeOf(const std::string& id);
  std::vector<std::shared_ptr<ProjectRuntime>> Runtimes();
  absl::StatusOr<Plan> PlanOf(const ProjectRecord& record) const;
  absl::StatusOr<std::shared_ptr<ProjectRuntime>> MakeRuntime(Entry& entry,
                                                              const ProjectRecord& record);
  std::filesystem::path DirectoryOf(const std::string& id) const {
    return options_.data / "projects" / id;
  }
  // The project's snapshots; `current` is there, and what a crash left is put in order, afterwards.
  absl::StatusOr<std::shared_ptr<state::SnapshotStore>> StateOf(const std::string& id);
  // With the project's operation held, as for the next.
  absl::StatusOr<state::SnapshotMetadata> Save(const ProjectRecord& record, SaveCall call,
                                               const ProgressSink& progress);
  // `runtime` may be null. Of the call only what is about hooks counts.
  absl::StatusOr<PreSave> RunPreSaveHooks(const ProjectRecord& record, ProjectRuntime* runtime,
                                          const SaveCall& call, const ProgressSink& progress);
  // The dumps of a snapshot's Postgres volumes, or why there are none.
  std::map<std::string, absl::StatusOr<std::filesystem::path>> DumpVolumes(
      const std::string& id, const std::string& snapshot_id, state::SnapshotStore& store,
      std::stop_token stop);
  struct CloneUse {
    ProjectRecord record;         // whose images will run on it
    std::string snapshot_id;      // empty: it is of the live state
    bool skip_hooks = false;      // no postRestore
    bool brings_version = false;  // the project's record has to follow to `record`
  };
  // What a clone needs before it can be a state. Of a project whose operation is held, for the
  // length of the call.
  std::function<absl::Status(const std::filesystem::path&)> PrepareFor(
      const CloneUse& use, const manifest::Manifest& manifest, state::SnapshotStore& store);
  // The version that is kept with this snapshot, or with another one of the same version of the app
  // when the project's is not it; nullptr: neither.
  static const AppVersion* FindVersion(const std::map<std::string, AppVersion>& versions,
                                       const ProjectRecord& record,
                                       const state::SnapshotMetadata& snapshot);
  // The record with the version of the app that a restore or a copy of this snapshot brings back:
  // another one when it was taken before that one was replaced.
  absl::StatusOr<ProjectRecord> RecordFor(const ProjectRecord& record,
                                          const state::SnapshotMetadata& snapshot);
  // Whether `target` can take the snapshot, as far as that is to be known before it does.
  absl::Status CheckRestore(const v1::RestoreSnapshotRequest& request, const ProjectRecord& target,
                            const manifest::Manifest& manifest, state::SnapshotStore& store);
  // The record of a project whose operation is held: it has followed the state.
  absl::StatusOr<ProjectRecord> HeldRecord(const std::string& id);
  // Has the record follow a state that was restored with its version; nothing to do for any other.
  // Of a project whose operation is held, or that nobody can ask for yet.
  absl::Status FollowState(const std::string& id);
  void ForgetVersion(const std::string& id, const std::string& snapshot_id);
  // Those of snapshots that are not there.
  absl::Status ForgetVersionsBut(const std::string& id, state::SnapshotStore& store);
  void CompleteSnapshot(const std::string& id, const std::string& snapshot_id,
                        std::stop_token stop);
  absl::Status StartLocked(Entry& entry, const ProjectRecord& record,
                           const std::map<std::string, std::string>& secrets,
                           const ProgressSink& progress, const std::function<bool()>& cancelled);
  // Of a known project whose app is about to have another version, and whose operation is held.
  absl::Status SaveBeforeUpgrade(const ProjectRecord& replaced, const std::string& new_version);
  // Of a project whose operation is held.
  absl::Status DeleteLocked(Entry& entry, const ProjectRecord& record, bool delete_data);
  void ForgetBrokenDuplicates();
  void AutosaveIfDue(const ProjectRecord& record, AutosaveClock& clock);
  void KeepSaved();     // until the supervisor ends
  void WatchSpace();    // likewise
  SpaceReport Space();  // of now, unless the disk does not answer
  absl::StatusOr<std::string> ContainerdVersion();
  bool Closing();
  v1::Project View(const ProjectRecord& record);
  // Makes what runs of the project follow its record.
  absl::Status ApplyGrants(const ProjectRecord& record);
  absl::Status EnsureImages(const ProjectRecord& record, const Plan& plan,
                            const ProgressSink& progress, const std::function<bool()>& cancelled);
  absl::Status CheckSecrets(const ProjectRecord& record,
                            const std::map<std::string, std::string>& secrets) const;
  absl::Status ForgetFirewall(const std::string& id);
  bool AwaitContainerd();  // false when the supervisor ends first
  bool AwaitPool();        // likewise
  void RemoveUnusedPackages();
  absl::Status PruneProject(const ProjectRecord& record, const std::string& ns,
                            v1::PruneImagesResponse& response);
  void RecoverProject(const ProjectRecord& record);
  // Until it is known what runs of a project: its data must not be taken for nobody's. Unavailable
  // when that takes too long. Without any lock.
  absl::Status AwaitRecovered(const std::string& id, absl::Duration limit);
  void WatchContainerd();
  void Publish(const std::string& id);

  const Options options_;
  const absl::Time started_at_;
  const std::unique_ptr<ProjectStore> store_;
  WorkingRoom working_room_;
  PackageStore packages_;
  containerd::Client containerd_;
  images::ImageStore images_;
  const Platform platform_;
  HostNetwork host_;
  ProjectFirewall firewall_;
  EventBus events_;
  // Of each project one at most, and one that is just ending.
  ThreadSet keepers_{2 * network::kMaxProjects};

  absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<std::string> recovering_ ABSL_GUARDED_BY(mutex_);  // known, and not taken over yet
  SpaceReport space_ ABSL_GUARDED_BY(mutex_);
  uint64_t space_asked_ ABSL_GUARDED_BY(mutex_) = 0;     // how often for the warning
  uint64_t space_measured_ ABSL_GUARDED_BY(mutex_) = 0;  // for which of those it is new enough
  absl::StatusOr<std::string> containerd_version_ ABSL_GUARDED_BY(mutex_) =
      absl::UnavailableError("not asked yet");
  absl::Duration containerd_asked_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();  // steady

  containerd::Client::Cancellation watch_cancellation_;
  std::unique_ptr<SnapshotCompletion> completion_;
  std::thread watcher_;
  std::vector<std::thread> recoveries_;
};

}  // namespace vibe::supervisor
