// Images and what things take on the disk.
#include <sys/stat.h>

#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "base/status.h"
#include "oci/image.h"
#include "supervisor/disk_space.h"
#include "supervisor/supervisor.h"

namespace vibe::supervisor {
namespace {

constexpr char kNamespacePrefix[] = "vibe-";
constexpr int64_t kMaxDocument = 8 << 20;
constexpr uint64_t kBlockBytes = 512;  // the unit of st_blocks

uint64_t TreeBytes(const std::filesystem::path& root) {
  uint64_t bytes = 0;
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(
      root, std::filesystem::directory_options::skip_permission_denied, error);
  // Files come and go while a project runs: what cannot be read counts nothing.
  for (; !error && entry != std::filesystem::recursive_directory_iterator();
       entry.increment(error)) {
    struct stat info {};
    if (::lstat(entry->path().c_str(), &info) == 0) {
      bytes += static_cast<uint64_t>(info.st_blocks) * kBlockBytes;
    }
  }
  return bytes;
}

// Of the layers, as they are in the image.
absl::StatusOr<uint64_t> ImageBytes(containerd::Client& client, const std::string& ns,
                                    const containerd::Image& image) {
  std::string digest = image.target_digest;
  if (oci::IsIndex(image.target_media_type)) {
    VIBE_ASSIGN_OR_RETURN(const std::string index, client.ReadBlob(ns, digest, kMaxDocument));
    VIBE_ASSIGN_OR_RETURN(const oci::Descriptor selected,
                          oci::SelectPlatform(index, oci::HostPlatform()));
    digest = selected.digest;
  }
  VIBE_ASSIGN_OR_RETURN(const std::string json, client.ReadBlob(ns, digest, kMaxDocument));
  VIBE_ASSIGN_OR_RETURN(const oci::ImageManifest manifest, oci::ParseManifest(json));
  int64_t bytes = manifest.config.size;
  for (const oci::Descriptor& layer : manifest.layers) {
    bytes += layer.size;
  }
  return static_cast<uint64_t>(bytes);
}

// All blobs of all projects, each once.
absl::StatusOr<uint64_t> StoredBytes(containerd::Client& client) {
  VIBE_ASSIGN_OR_RETURN(const std::vector<std::string> namespaces, client.ListNamespaces());
  std::map<std::string, int64_t> sizes;
  for (const std::string& ns : namespaces) {
    VIBE_ASSIGN_OR_RETURN(const auto blobs, client.ListBlobs(ns));
    for (const auto& [digest, info] : blobs) {
      sizes[digest] = info.size;
    }
  }
  uint64_t total = 0;
  for (const auto& [digest, size] : sizes) {
    total += static_cast<uint64_t>(size);
  }
  return total;
}

}  // namespace

absl::StatusOr<v1::DiskUsageResponse> Supervisor::DiskUsage() {
  v1::DiskUsageResponse usage;
  VIBE_ASSIGN_OR_RETURN(const uint64_t images, StoredBytes(containerd_));
  usage.set_images_bytes(images);
  VIBE_ASSIGN_OR_RETURN(const std::vector<ProjectRecord> records, store_->List());
  for (const ProjectRecord& record : records) {
    (*usage.mutable_project_bytes())[record.id] =
        TreeBytes(options_.data / "projects" / record.id) +
        TreeBytes(options_.data / "logs" / record.id);
  }
  VIBE_ASSIGN_OR_RETURN(const SpaceReport space, MeasureSpace(options_.data, options_.disk_host));
  usage.set_total_bytes(space.total);
  usage.set_free_bytes(space.available);
  usage.set_disk_warning(space.warning);
  return usage;
}

absl::StatusOr<v1::ListImagesResponse> Supervisor::ListImages() {
  VIBE_ASSIGN_OR_RETURN(const std::vector<ProjectRecord> records, store_->List());
  v1::ListImagesResponse response;
  std::map<std::pair<std::string, std::string>, v1::ListImagesResponse::Image> images;
  for (const ProjectRecord& record : records) {
    const std::string ns = NamespaceName(record.app_id, record.id);
    VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Image> stored, containerd_.ListImages(ns));
    for (const containerd::Image& image : stored) {
      auto& shown = images[{image.name, image.target_digest}];
      shown.set_reference(image.name);
      shown.set_digest(image.target_digest);
      shown.add_project_ids(record.id);
      if (const auto bytes = ImageBytes(containerd_, ns, image); bytes.ok()) {
        shown.set_size_bytes(*bytes);
      }
    }
  }
  for (auto& [key, image] : images) {
    *response.add_images() = std::move(image);
  }
  return response;
}

absl::StatusOr<v1::PruneImagesResponse> Supervisor::PruneImages() {
  working_room_.Make();
  VIBE_ASSIGN_OR_RETURN(const uint64_t before, StoredBytes(containerd_));
  VIBE_ASSIGN_OR_RETURN(const std::vector<std::string> namespaces, containerd_.ListNamespaces());
  // After the namespaces: a project is recorded before its namespace is made.
  VIBE_ASSIGN_OR_RETURN(const std::vector<ProjectRecord> records, store_->List());
  v1::PruneImagesResponse response;
  std::set<std::string> known;
  for (const ProjectRecord& record : records) {
    const std::string ns = NamespaceName(record.app_id, record.id);
    known.insert(ns);
    const std::shared_ptr<Entry> entry = EntryOf(record.id);
    if (!entry->operation.TryLock()) {
      continue;
    }
    const absl::Status status = PruneProject(record, ns, response);
    entry->operation.Unlock();
    VIBE_RETURN_IF_ERROR(status);
  }
  for (const std::string& ns : namespaces) {
    if (absl::StartsWith(ns, kNamespacePrefix) && known.count(ns) == 0) {
      VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Image> images,
                            containerd_.ListImages(ns));
      VIBE_RETURN_IF_ERROR(images_.RemoveNamespace(ns));
      for (const containerd::Image& image : images) {
        response.add_removed(image.name);
      }
    }
  }
  VIBE_ASSIGN_OR_RETURN(const uint64_t after, StoredBytes(containerd_));
  response.set_freed_bytes(before > after ? before - after : 0);
  return response;
}

absl::Status Supervisor::PruneProject(const ProjectRecord& record, const std::string& ns,
                                      v1::PruneImagesResponse& response) {
  VIBE_ASSIGN_OR_RETURN(const Plan plan, PlanOf(record));
  std::set<std::string> used;
  for (const PlannedService& service : plan.services) {
    used.insert(service.image);
  }
  VIBE_ASSIGN_OR_RETURN(const auto versions, store_->KeptVersions(record.id));
  for (const auto& [snapshot_id, version] : versions) {
    if (const auto kept = PlanOf(WithVersion(record, version)); kept.ok()) {
      for (const PlannedService& service : kept->services) {
        used.insert(service.image);
      }
    }
  }
  if (const std::shared_ptr<ProjectRuntime> runtime = RuntimeOf(record.id)) {
    for (const PlannedService& service : runtime->plan().services) {
      used.insert(service.image);  // what runs may be of an older manifest
    }
  }
  VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Image> images, containerd_.ListImages(ns));
  for (const containerd::Image& image : images) {
    if (used.count(image.name) == 0) {
      VIBE_RETURN_IF_ERROR(containerd_.DeleteImage(ns, image.name, true));
      response.add_removed(image.name);
    }
  }
  return absl::OkStatus();
}

}  // namespace vibe::supervisor
