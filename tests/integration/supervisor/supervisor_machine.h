// A machine for tests: a real containerd and the real vibe-supervisor in private network and mount
// namespaces, reached over its unix sockets as the host does. Needs root. Not thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "containerd_process.h"
#include "vibe/v1/supervisor.grpc.pb.h"

namespace vibe::testing {

class SupervisorMachine {
 public:
  static absl::StatusOr<std::unique_ptr<SupervisorMachine>> Start(
      const ContainerdOptions& options = {
          .disk_bytes = uint64_t{4} << 30, .network = true, .btrfs = true});
  ~SupervisorMachine();

  ContainerdProcess& containerd() { return *containerd_; }
  v1::Supervisor::Stub& stub() { return *stub_; }
  pid_t pid() const { return pid_; }
  std::string log() const;

  absl::Status StartSupervisor();            // returns when it answers
  void KillSupervisor(int signal);           // waits for its end
  absl::StatusOr<UniqueFd> Forward() const;  // a stream to the forward server

  // An app whose package carries the payload image as "payload:1". Returns the package's digest.
  absl::StatusOr<std::string> ImportPayload();

  // Calls, with streams read to their end. Errors are the contract's.
  absl::StatusOr<v1::Project> Ensure(const std::string& id, const std::string& name,
                                     const std::string& manifest, const std::string& package);
  absl::StatusOr<v1::Project> Open(const std::string& id);
  absl::StatusOr<v1::Project> StartProject(const std::string& id,
                                           std::vector<v1::Progress>* progress = nullptr,
                                           const std::map<std::string, std::string>& secrets = {});
  absl::StatusOr<v1::Project> Stop(const std::string& id, uint32_t timeout_seconds = 10);
  absl::Status Delete(const std::string& id);
  absl::StatusOr<v1::Snapshot> Save(const v1::SaveSnapshotRequest& request);
  absl::StatusOr<v1::RestoreSnapshotResponse> Restore(const v1::RestoreSnapshotRequest& request);
  absl::StatusOr<v1::Project> Get(const std::string& id);
  absl::StatusOr<std::vector<v1::LogLine>> Logs(const std::string& id, const std::string& service,
                                                uint32_t tail);

  // Everything that projects leave in the machine when they are not cleaned up, each kind with what
  // there is.
  std::map<std::string, std::string> Traces();
  std::filesystem::path DataDirectory() const;  // the supervisor's, as this process reaches it
  int OpenFiles() const;                        // of the supervisor

 private:
  SupervisorMachine() = default;

  std::unique_ptr<ContainerdProcess> containerd_;
  pid_t pid_ = -1;
  std::unique_ptr<v1::Supervisor::Stub> stub_;
};

// The package's index and bytes for a folder of files.
struct PackageBytes {
  v1::PackageIndex index;
  std::string bytes;
};
PackageBytes MakePackage(const std::map<std::string, std::string>& files);

}  // namespace vibe::testing
