// What exists in containerd and in the network for one service: a network namespace, a writable
// snapshot on top of the image, a container and its task. All calls block; calls for one service
// must not overlap.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "containerd/client.h"
#include "images/images.h"
#include "network/network.h"
#include "supervisor/plan.h"

namespace vibe::supervisor {

// What services run on; outlives them.
struct Platform {
  containerd::Client& containerd;
  images::ImageStore& images;
  network::NetworkPaths network;
  std::string logger;  // path of vibe-logger
};

class ServiceContainer {
 public:
  // `secrets_file` (volatile) tells the logger which values it must not write; it goes with its
  // folder.
  ServiceContainer(const Platform& platform, const Plan& plan, const PlannedService& service,
                   std::filesystem::path log_file, std::filesystem::path secrets_file);

  // Makes all of it up to a task that is created but not started. What is left of an earlier run
  // must have been removed. On an error nothing is left behind.
  absl::Status Create(const std::map<std::string, std::string>& secrets);
  absl::Status Start();

  // After the service's process has ended: returns when all of its output is in the log file.
  void FlushLog();

  // A new task in the container that exists, with the files that the last run left.
  absl::Status Recreate();

  // Asks with the image's stop signal, forces after `timeout`. A task that does not run is a
  // success. `resists` is told, once, when it does not end soon, how long it is until the force.
  absl::Status Stop(
      absl::Duration timeout,
      const std::function<void(absl::Duration left)>& resists = [](absl::Duration) {});

  // The number of the service's first process; NotFound when there is no task.
  absl::StatusOr<uint32_t> Pid();

  // Removes task, container, snapshot and endpoint; what is gone already is a success.
  absl::Status Remove();

  // Runs the command in the container to its end and returns its exit code. DeadlineExceeded kills
  // it.
  absl::StatusOr<uint32_t> Exec(const std::vector<std::string>& args, absl::Duration timeout);

 private:
  absl::Status CreateContainer(const std::map<std::string, std::string>& secrets,
                               std::vector<containerd::Mount>& rootfs);
  absl::Status WriteSecrets(const std::map<std::string, std::string>& secrets) const;
  absl::Status CreateTask(const std::vector<containerd::Mount>& rootfs);
  network::Endpoint endpoint() const;

  const Platform& platform_;
  const std::string namespace_;
  const int project_index_;
  const network::AddressPool pool_;
  const PlannedService service_;
  const std::filesystem::path log_file_, secrets_file_;
};

// The OCI runtime spec that a container was made with.
absl::StatusOr<std::string> SpecOf(containerd::Client& client, const std::string& ns,
                                   const std::string& container_id);

}  // namespace vibe::supervisor
