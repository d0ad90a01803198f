#include "images/removal.h"

#include <algorithm>
#include <csignal>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/random.h"
#include "base/status.h"
#include "images/images.h"

namespace vibe::images {
namespace {

constexpr absl::Duration kKillTimeout = absl::Seconds(20);

absl::Status RemoveContainer(containerd::Client& client, const std::string& ns,
                             const std::string& id) {
  const auto task = client.GetTask(ns, id);
  if (task.ok()) {
    if (task->status == containerd::TaskStatus::kPaused) {
      client.ResumeTask(ns, id).IgnoreError();  // frozen processes do not die
    }
    VIBE_RETURN_IF_ERROR(client.KillTask(ns, id, SIGKILL, true));
    const auto ended = client.WaitTask(ns, id, kKillTimeout);
    if (!ended.ok() && !absl::IsNotFound(ended.status())) {
      return ended.status();
    }
  } else if (!absl::IsNotFound(task.status())) {
    return task.status();
  }
  VIBE_RETURN_IF_ERROR(client.DeleteTask(ns, id));
  return client.DeleteContainer(ns, id);
}

absl::Status RemoveContainers(containerd::Client& client, const std::string& ns) {
  VIBE_ASSIGN_OR_RETURN(const auto containers, client.ListContainers(ns));
  for (const containerd::Container& container : containers) {
    const absl::Status status = RemoveContainer(client, ns, container.id);
    VIBE_RETURN_IF_ERROR(Annotate(status, absl::StrCat("container ", container.id)));
  }
  return absl::OkStatus();
}

absl::Status RemoveSnapshots(containerd::Client& client, const std::string& ns) {
  VIBE_ASSIGN_OR_RETURN(const auto snapshots, client.ListSnapshots(ns));
  VIBE_ASSIGN_OR_RETURN(const std::vector<std::string> names, LeafFirst(snapshots));
  for (const std::string& name : names) {
    VIBE_RETURN_IF_ERROR(client.RemoveSnapshot(ns, name));
  }
  return absl::OkStatus();
}

absl::Status RemoveContent(containerd::Client& client, const std::string& ns) {
  VIBE_ASSIGN_OR_RETURN(const auto ingests, client.ListIngests(ns));
  for (const std::string& ref : ingests) {
    VIBE_RETURN_IF_ERROR(client.AbortIngest(ns, ref));
  }
  VIBE_ASSIGN_OR_RETURN(const auto blobs, client.ListBlobs(ns));
  for (const auto& [digest, info] : blobs) {
    VIBE_RETURN_IF_ERROR(client.DeleteBlob(ns, digest));
  }
  return absl::OkStatus();
}

// containerd frees the disk only when its garbage collector runs, and the end of a lease is how one
// asks for it.
absl::Status CollectGarbage(containerd::Client& client, const std::string& ns) {
  VIBE_ASSIGN_OR_RETURN(
      const std::string lease,
      client.CreateLease(ns, absl::StrCat("collect-", RandomHex(6)), absl::Hours(1)));
  return client.DeleteLease(ns, lease, true);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> LeafFirst(
    const std::vector<containerd::Client::SnapshotInfo>& snapshots) {
  std::map<std::string, std::string> parents;
  std::map<std::string, int> children;
  for (const auto& snapshot : snapshots) {
    parents[snapshot.name] = snapshot.parent;
    ++children[snapshot.parent];
  }
  std::vector<std::string> order;
  for (const auto& [name, parent] : parents) {
    if (children.count(name) == 0) {
      order.push_back(name);
    }
  }
  // `order` grows while it is walked: each name may free its parent.
  for (size_t i = 0; i < order.size(); ++i) {
    const std::string& parent = parents[order[i]];
    if (parents.count(parent) != 0 && --children[parent] == 0) {
      order.push_back(parent);
    }
  }
  if (order.size() != parents.size()) {
    return absl::InternalError("containerd's snapshots stand on each other in a circle");
  }
  return order;
}

absl::Status ImageStore::RemoveNamespace(const std::string& ns) {
  VIBE_ASSIGN_OR_RETURN(const std::vector<std::string> namespaces, client_.ListNamespaces());
  if (std::find(namespaces.begin(), namespaces.end(), ns) == namespaces.end()) {
    return absl::OkStatus();
  }
  VIBE_RETURN_IF_ERROR(RemoveContainers(client_, ns));
  VIBE_ASSIGN_OR_RETURN(const auto images, client_.ListImages(ns));
  for (const containerd::Image& image : images) {
    VIBE_RETURN_IF_ERROR(client_.DeleteImage(ns, image.name, false));
  }
  VIBE_RETURN_IF_ERROR(RemoveSnapshots(client_, ns));
  VIBE_ASSIGN_OR_RETURN(const std::vector<std::string> leases, client_.ListLeases(ns));
  for (const std::string& lease : leases) {
    VIBE_RETURN_IF_ERROR(client_.DeleteLease(ns, lease, false));
  }
  VIBE_RETURN_IF_ERROR(RemoveContent(client_, ns));
  VIBE_RETURN_IF_ERROR(CollectGarbage(client_, ns));
  return client_.DeleteNamespace(ns);
}

}  // namespace vibe::images
