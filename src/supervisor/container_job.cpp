#include "supervisor/container_job.h"

#include <algorithm>
#include <csignal>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/random.h"
#include "base/status.h"
#include "supervisor/runtime_spec.h"

namespace vibe::supervisor {
namespace {

// With a dot, which no service's name has.
constexpr char kPrefix[] = "job.";

// Tells this process's jobs from those that an earlier supervisor left.
const std::string& OwnPrefix() {
  static const std::string prefix = absl::StrCat(kPrefix, RandomHex(4), ".");
  return prefix;
}

constexpr absl::Duration kStopPoll = absl::Milliseconds(200);
constexpr absl::Duration kKillLimit = absl::Seconds(10);

absl::Status Remove(containerd::Client& client, const std::string& ns, const std::string& id) {
  client.KillTask(ns, id, SIGKILL, /*all=*/true).IgnoreError();
  client.WaitTask(ns, id, kKillLimit).status().IgnoreError();
  absl::Status status = client.DeleteTask(ns, id);
  status.Update(client.DeleteContainer(ns, id));
  status.Update(client.RemoveSnapshot(ns, id));
  return status;
}

absl::StatusOr<uint32_t> RunToEnd(const Platform& platform, const ContainerJob& job,
                                  const std::string& id, const std::stop_token& stop) {
  containerd::Client& client = platform.containerd;
  VIBE_ASSIGN_OR_RETURN(const images::InspectedImage image,
                        platform.images.Inspect(job.ns, job.image));
  VIBE_ASSIGN_OR_RETURN(
      const std::vector<containerd::Mount> rootfs,
      client.PrepareSnapshot(job.ns, "", id, image.chain_id, {{"containerd.io/gc.root", "true"}}));
  VIBE_ASSIGN_OR_RETURN(const ResolvedUser user, ResolveUser(job.user, "", ""));
  PlannedService service;
  service.name = "job";
  service.container_id = id;
  service.image = job.image;
  service.entrypoint = job.command;
  service.env = job.env;
  service.working_dir = "/";
  service.mounts = job.mounts;
  service.cgroup = absl::StrCat(job.cgroup, "/", id);
  VIBE_ASSIGN_OR_RETURN(std::string spec, RuntimeSpec(service, image.config, user, {}));
  VIBE_RETURN_IF_ERROR(client.CreateContainer(job.ns, {.id = id,
                                                       .image = job.image,
                                                       .snapshot_key = id,
                                                       .spec_json = std::move(spec),
                                                       .labels = {}}));
  VIBE_RETURN_IF_ERROR(client.CreateTask(job.ns, id, rootfs, {}).status());
  VIBE_RETURN_IF_ERROR(client.StartTask(job.ns, id));
  const absl::Time deadline = absl::Now() + job.timeout;
  while (true) {
    absl::StatusOr<uint32_t> code = client.WaitTask(job.ns, id, std::min(kStopPoll, job.timeout));
    if (!absl::IsDeadlineExceeded(code.status()) || absl::Now() >= deadline) {
      return code;
    }
    if (stop.stop_requested()) {
      return absl::CancelledError("it was stopped");
    }
  }
}

}  // namespace

absl::StatusOr<uint32_t> RunJob(const Platform& platform, const ContainerJob& job,
                                std::stop_token stop) {
  const std::string id = absl::StrCat(OwnPrefix(), RandomHex(4));
  absl::StatusOr<uint32_t> code = RunToEnd(platform, job, id, stop);
  const absl::Status removed = Remove(platform.containerd, job.ns, id);
  if (code.ok() && !removed.ok()) {
    return removed;
  }
  return code;
}

absl::Status RemoveLeftJobs(containerd::Client& client, const std::string& ns) {
  VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Container> containers,
                        client.ListContainers(ns));
  VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Client::SnapshotInfo> snapshots,
                        client.ListSnapshots(ns));
  std::set<std::string> ids;
  for (const containerd::Container& container : containers) {
    ids.insert(container.id);
  }
  for (const containerd::Client::SnapshotInfo& snapshot : snapshots) {
    ids.insert(snapshot.name);  // it is made before the container, which then may never have been
  }
  absl::Status status;
  for (const std::string& id : ids) {
    if (absl::StartsWith(id, kPrefix) && !absl::StartsWith(id, OwnPrefix())) {
      status.Update(Remove(client, ns, id));
    }
  }
  return status;
}

}  // namespace vibe::supervisor
