// Calls of vibe.v1.Supervisor over one dialled stream, which is dialled again when it is broken.
//
// Thread-safe. Unary calls have a deadline. A call that only reads, or that may be done twice, is
// tried again for a few seconds while the supervisor restarts; a stream is tried again only until
// its first message came. Every call ends early with Cancelled when its Cancellation says so.
// Errors carry the supervisor's reason and details.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "host/cancellation.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::host {

class SupervisorClient {
 public:
  // A new connection to the supervisor's port. Called by several threads.
  using Dial = std::function<absl::StatusOr<UniqueFd>()>;
  using ProgressSink = std::function<void(const v1::Progress&)>;
  using LogSink = std::function<absl::Status(const v1::LogLine&)>;
  // Gives the next bytes of a package, up to 1 MiB; empty at the end.
  using ByteSource = std::function<absl::StatusOr<std::string>()>;

  explicit SupervisorClient(Dial dial);
  ~SupervisorClient();

  // One try, at most 2 s: also the machine's probe.
  absl::StatusOr<v1::HealthResponse> Health();
  // What the last Health that was answered said; seconds old at most while the machine is up.
  std::optional<v1::HealthResponse> LastHealth() const;
  absl::StatusOr<v1::DiskUsageResponse> DiskUsage();
  // Gives the machine this computer's time; how far it was off before. One try, at most 2 s.
  absl::StatusOr<absl::Duration> SyncClock();
  // What this computer is in its own network; nullopt: that is not known any more.
  absl::Status SetHostNetwork(const std::optional<v1::HostNetwork>& network);
  // Writes everything to the machine's disk; services run on. For Machine::Suspend.
  absl::Status SyncDisk();
  absl::Status Shutdown();

  absl::StatusOr<std::vector<v1::Project>> ListProjects(Cancellation& cancel);
  absl::StatusOr<v1::Project> GetProject(const std::string& id, Cancellation& cancel);
  absl::StatusOr<v1::Project> EnsureProject(const v1::EnsureProjectRequest& request,
                                            Cancellation& cancel);
  absl::StatusOr<v1::Project> SetGrants(const std::string& id, const v1::Grants& grants,
                                        Cancellation& cancel);
  // In one try, at most 2 s: the machine may be at work on the project.
  absl::Status TrySetGrants(const std::string& id, const v1::Grants& grants);
  absl::Status DeleteProject(const std::string& id, bool delete_data, Cancellation& cancel);

  absl::StatusOr<v1::Project> OpenProject(const std::string& id, const ProgressSink& progress,
                                          Cancellation& cancel);
  absl::StatusOr<v1::Project> StartProject(const std::string& id,
                                           const std::map<std::string, std::string>& secrets,
                                           const ProgressSink& progress, Cancellation& cancel);
  absl::StatusOr<v1::Project> StopProject(const std::string& id,
                                          std::optional<uint32_t> timeout_seconds,
                                          const ProgressSink& progress, Cancellation& cancel);

  absl::StatusOr<v1::Snapshot> SaveSnapshot(const v1::SaveSnapshotRequest& request,
                                            const ProgressSink& progress, Cancellation& cancel);
  absl::StatusOr<v1::RestoreSnapshotResponse> RestoreSnapshot(
      const v1::RestoreSnapshotRequest& request, const ProgressSink& progress,
      Cancellation& cancel);
  absl::StatusOr<std::vector<v1::Snapshot>> ListSnapshots(const std::string& id,
                                                          Cancellation& cancel);
  absl::Status DeleteSnapshot(const std::string& id, const std::string& snapshot_id,
                              Cancellation& cancel);
  absl::StatusOr<v1::Project> DuplicateProject(const v1::DuplicateProjectRequest& request,
                                               const ProgressSink& progress, Cancellation& cancel);

  // The package's digest. `bytes` is asked only when the machine does not have the package. Not
  // tried again.
  absl::StatusOr<std::string> ImportPackage(const v1::PackageIndex& index, const ByteSource& bytes,
                                            Cancellation& cancel);

  absl::Status Logs(const v1::GetProjectLogsRequest& request, const LogSink& sink,
                    Cancellation& cancel);
  // Changes of projects, for about ten seconds; then ok: call again. `begun` is called once no
  // change is missed any more; its error ends the call.
  absl::Status Events(const std::function<absl::Status()>& begun,
                      const std::function<void(const v1::Project&)>& sink, Cancellation& cancel);

  // A running command. Send from any one thread, Receive from any one thread.
  class Exec {
   public:
    virtual ~Exec() = default;
    virtual bool Send(const v1::ExecRequest& request) = 0;  // false: the stream is over
    virtual bool Receive(v1::ExecResponse& response) = 0;   // false: ask Finish
    virtual absl::Status Finish() = 0;                      // after Receive returned false
    virtual void Cancel() = 0;                              // from any thread
  };
  absl::StatusOr<std::unique_ptr<Exec>> StartExec(const v1::ExecRequest::Start& start);

 private:
  struct Channel;

  absl::StatusOr<std::shared_ptr<Channel>> Connect();
  void Drop(const std::shared_ptr<Channel>& channel);
  template <typename Call>
  absl::Status Try(const Call& call, absl::Duration patience, Cancellation* cancel);
  template <typename Response, typename Request, typename Method>
  absl::StatusOr<Response> Unary(Method method, const Request& request, absl::Duration deadline,
                                 absl::Duration patience, Cancellation* cancel);
  template <typename Response, typename Request, typename Method>
  absl::StatusOr<Response> LastOf(Method method, const Request& request,
                                  const ProgressSink& progress, Cancellation& cancel);
  template <typename Response, typename Request, typename Method>
  absl::StatusOr<v1::Project> ProjectStream(Method method, const Request& request,
                                            const ProgressSink& progress, Cancellation& cancel);

  const Dial dial_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<Channel> channel_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::HealthResponse> health_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace vibe::host
