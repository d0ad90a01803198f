// A containerd of a test's own: its root, state and socket are in a temporary folder and its mounts
// in a mount namespace of its own, so that nothing is left when it ends. Needs root. Not
// thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "containerd/client.h"
#include "init/loop_device.h"

namespace vibe::testing {

struct ContainerdOptions {
  uint64_t disk_bytes =
      0;  // the size of the disk that it stores everything on; 0: the temporary folder's
  bool network = false;  // a network namespace of its own as well
  bool btrfs = false;    // that disk is a file with btrfs on it, as a machine's; else memory
};

class ContainerdProcess {
 public:
  static absl::StatusOr<std::unique_ptr<ContainerdProcess>> Start(
      const ContainerdOptions& options = {});
  ~ContainerdProcess();  // ends it and every container that a failed test left

  std::filesystem::path directory() const { return directory_; }
  containerd::Client::Options client_options() const;
  std::string cgroup() const;  // for the containers' "cgroupsPath"
  std::string log() const;

  pid_t pid() const { return pid_; }

  // Starts another program in the same namespaces; it ends with this process. The caller waits for
  // it.
  absl::StatusOr<pid_t> Run(const std::vector<std::string>& args,
                            const std::filesystem::path& output);

  void Kill();             // SIGKILL; containers go on
  absl::Status Restart();  // after Kill; returns when it answers

  // How many files the store holds: blobs, ingests and unpacked layers.
  int StoredBlobs() const;
  int StoredSnapshots() const;
  int RunningShims() const;

 private:
  explicit ContainerdProcess(std::filesystem::path directory) : directory_(std::move(directory)) {}
  absl::Status MakeDisk();
  absl::Status Spawn();

  const std::filesystem::path directory_;
  ContainerdOptions options_;
  pid_t pid_ = -1;
  UniqueFd mounts_, network_;  // keep the namespaces between two runs
  init::LoopDevice disk_;      // until it is mounted
};

}  // namespace vibe::testing
