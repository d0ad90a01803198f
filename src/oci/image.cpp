#include "oci/image.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/sha256.h"
#include "base/status.h"
#include "oci/image_json.h"
#include "oci/json.h"
#include "oci/reference.h"

namespace vibe::oci {
namespace {

constexpr char kOciIndex[] = "application/vnd.oci.image.index.v1+json";
constexpr char kDockerList[] = "application/vnd.docker.distribution.manifest.list.v2+json";
constexpr char kOciManifest[] = "application/vnd.oci.image.manifest.v1+json";
constexpr char kDockerManifest[] = "application/vnd.docker.distribution.manifest.v2+json";
constexpr char kOciConfig[] = "application/vnd.oci.image.config.v1+json";
constexpr char kDockerConfig[] = "application/vnd.docker.container.image.v1+json";

constexpr size_t kMaxEntries = 1000;
constexpr size_t kMaxLayers = 500;
constexpr size_t kMaxStrings = 4096;
constexpr size_t kMaxString = 128 << 10;  // what the kernel takes as one argument
constexpr size_t kMaxName = 255;
constexpr int64_t kMaxImage = int64_t{1} << 42;  // 4 TiB

bool IsName(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || absl::StrContains("/.+-_", static_cast<char>(c));
  });
}

bool IsLayer(absl::string_view media_type) {
  return media_type == "application/vnd.oci.image.layer.v1.tar" ||
         media_type == "application/vnd.oci.image.layer.v1.tar+gzip" ||
         media_type == "application/vnd.oci.image.layer.v1.tar+zstd" ||
         media_type == "application/vnd.docker.image.rootfs.diff.tar" ||
         media_type == "application/vnd.docker.image.rootfs.diff.tar.gzip" ||
         media_type == "application/vnd.docker.image.rootfs.diff.tar.zstd";
}

// Two variants are the plain architecture under another name.
bool IsBaseline(const IndexEntry& entry) {
  return entry.variant.empty() || (entry.architecture == "arm64" && entry.variant == "v8") ||
         (entry.architecture == "amd64" && entry.variant == "v1");
}

std::string PlatformName(const IndexEntry& entry) {
  std::string name = absl::StrCat(entry.os, "/", entry.architecture);
  if (!entry.variant.empty()) {
    absl::StrAppend(&name, "/", entry.variant);
  }
  return name;
}

absl::Status ParsePlatform(const nlohmann::json& json, IndexEntry& entry) {
  VIBE_ASSIGN_OR_RETURN(entry.os, StringMember(json, "os", kMaxName));
  VIBE_ASSIGN_OR_RETURN(entry.architecture, StringMember(json, "architecture", kMaxName));
  VIBE_ASSIGN_OR_RETURN(entry.variant, StringMember(json, "variant", kMaxName));
  for (const std::string* name : {&entry.os, &entry.architecture, &entry.variant}) {
    if (!name->empty() && !IsName(*name)) {
      return absl::InvalidArgumentError("a platform holds characters that no platform has");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<IndexEntry> ParseEntry(const nlohmann::json& json) {
  IndexEntry entry;
  VIBE_ASSIGN_OR_RETURN(entry.descriptor, ParseDescriptor(json));
  VIBE_RETURN_IF_ERROR(ParsePlatform(Member(json, "platform"), entry));
  VIBE_ASSIGN_OR_RETURN(entry.ref_name, StringMember(Member(json, "annotations"),
                                                     "org.opencontainers.image.ref.name", 4096));
  return entry;
}

absl::Status CheckVersion(const nlohmann::json& json, absl::string_view what) {
  if (Member(json, "schemaVersion") != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " is not of schema version 2, the only one that is supported"));
  }
  return absl::OkStatus();
}

absl::Status ParseProcess(const nlohmann::json& json, ImageConfig& config) {
  VIBE_ASSIGN_OR_RETURN(config.entrypoint,
                        StringsMember(json, "Entrypoint", kMaxStrings, kMaxString));
  VIBE_ASSIGN_OR_RETURN(config.cmd, StringsMember(json, "Cmd", kMaxStrings, kMaxString));
  VIBE_ASSIGN_OR_RETURN(config.env, StringsMember(json, "Env", kMaxStrings, kMaxString));
  VIBE_ASSIGN_OR_RETURN(config.working_dir, StringMember(json, "WorkingDir", 4096));
  VIBE_ASSIGN_OR_RETURN(config.user, StringMember(json, "User", kMaxName));
  VIBE_ASSIGN_OR_RETURN(config.stop_signal, StringMember(json, "StopSignal", 32));
  // Images with entries that set nothing exist; other runtimes pass over them too.
  config.env.erase(std::remove_if(config.env.begin(), config.env.end(),
                                  [](const std::string& entry) {
                                    const size_t equals = entry.find('=');
                                    return equals == 0 || equals == std::string::npos;
                                  }),
                   config.env.end());
  if (!config.stop_signal.empty() && !IsName(config.stop_signal)) {
    return absl::InvalidArgumentError("StopSignal is not a signal");
  }
  return absl::OkStatus();
}

}  // namespace

Platform HostPlatform() {
#if defined(__x86_64__)
  return {"linux", "amd64"};
#elif defined(__aarch64__)
  return {"linux", "arm64"};
#else
#error "no name is known for this architecture"
#endif
}

bool IsIndex(absl::string_view media_type) {
  return media_type == kOciIndex || media_type == kDockerList;
}

bool IsManifest(absl::string_view media_type) {
  return media_type == kOciManifest || media_type == kDockerManifest;
}

absl::StatusOr<Descriptor> ParseDescriptor(const nlohmann::json& json) {
  Descriptor descriptor;
  VIBE_ASSIGN_OR_RETURN(descriptor.media_type, StringMember(json, "mediaType", kMaxName));
  VIBE_ASSIGN_OR_RETURN(descriptor.digest, StringMember(json, "digest", kMaxName));
  if (!IsName(descriptor.media_type)) {
    return absl::InvalidArgumentError("a descriptor has no usable media type");
  }
  if (!IsDigest(descriptor.digest)) {
    return absl::InvalidArgumentError("a descriptor has no sha256 digest");
  }
  const nlohmann::json& size = Member(json, "size");
  if (!size.is_number_integer() || size < 0 || size > kMaxImage) {
    return absl::InvalidArgumentError("a descriptor's size is not a usable number of bytes");
  }
  descriptor.size = size.get<int64_t>();
  return descriptor;
}

absl::StatusOr<std::vector<IndexEntry>> ParseIndex(absl::string_view text, absl::string_view what) {
  VIBE_ASSIGN_OR_RETURN(const nlohmann::json json, ParseObject(text, what));
  VIBE_RETURN_IF_ERROR(CheckVersion(json, what));
  const nlohmann::json& manifests = Member(json, "manifests");
  if (!manifests.is_array() || manifests.size() > kMaxEntries) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " has no list of manifests, or too long a one"));
  }
  std::vector<IndexEntry> entries;
  for (const nlohmann::json& manifest : manifests) {
    absl::StatusOr<IndexEntry> entry = ParseEntry(manifest);
    if (!entry.ok()) {
      return Annotate(entry.status(), what);
    }
    entries.push_back(*std::move(entry));
  }
  return entries;
}

const IndexEntry* BestEntry(const std::vector<IndexEntry>& entries, const Platform& platform) {
  const IndexEntry* best = nullptr;
  for (const IndexEntry& entry : entries) {
    if (entry.os == platform.os && entry.architecture == platform.architecture) {
      if (IsBaseline(entry)) {
        return &entry;
      }
      best = best == nullptr ? &entry : best;
    }
  }
  return best;
}

std::string GuessMediaType(absl::string_view text) {
  const absl::StatusOr<nlohmann::json> json = ParseObject(text, "the document");
  if (!json.ok()) {
    return {};
  }
  const absl::StatusOr<std::string> stated = StringMember(*json, "mediaType", kMaxName);
  if (stated.ok() && (IsIndex(*stated) || IsManifest(*stated))) {
    return *stated;
  }
  if (Member(*json, "schemaVersion") != 2 || !stated.ok() || !stated->empty()) {
    return {};
  }
  const bool index = Member(*json, "manifests").is_array();
  const bool manifest = Member(*json, "layers").is_array();
  return index == manifest ? "" : index ? kOciIndex : kOciManifest;
}

absl::StatusOr<Descriptor> SelectPlatform(absl::string_view index_json, const Platform& platform) {
  VIBE_ASSIGN_OR_RETURN(std::vector<IndexEntry> entries, ParseIndex(index_json, "the image index"));
  entries.erase(std::remove_if(entries.begin(), entries.end(),
                               [](const IndexEntry& entry) {
                                 return !IsManifest(entry.descriptor.media_type) ||
                                        entry.os == "unknown";  // attestations carry this platform
                               }),
                entries.end());
  if (const IndexEntry* entry = BestEntry(entries, platform); entry != nullptr) {
    return entry->descriptor;
  }
  if (entries.size() == 1 && entries[0].os.empty() && entries[0].architecture.empty()) {
    return entries[0].descriptor;
  }
  std::vector<std::string> names;
  for (const IndexEntry& entry : entries) {
    if (names.size() < 20) {
      names.push_back(PlatformName(entry));
    }
  }
  return WithReason(absl::NotFoundError(absl::StrCat(
                        "the image is not made for ", platform.os, "/", platform.architecture,
                        names.empty() ? "" : ", only for ", absl::StrJoin(names, ", "))),
                    Reason::kImagePullFailed);
}

absl::StatusOr<ImageManifest> ParseManifest(absl::string_view json) {
  constexpr char kWhat[] = "the image manifest";
  VIBE_ASSIGN_OR_RETURN(const nlohmann::json document, ParseObject(json, kWhat));
  VIBE_RETURN_IF_ERROR(CheckVersion(document, kWhat));
  ImageManifest manifest;
  absl::StatusOr<Descriptor> config = ParseDescriptor(Member(document, "config"));
  if (!config.ok()) {
    return Annotate(config.status(), kWhat);
  }
  manifest.config = *std::move(config);
  if (manifest.config.media_type != kOciConfig && manifest.config.media_type != kDockerConfig) {
    return absl::InvalidArgumentError(
        absl::StrCat(kWhat, " does not describe a container but a ", manifest.config.media_type));
  }
  const nlohmann::json& layers = Member(document, "layers");
  if (!layers.is_array() || layers.size() > kMaxLayers) {
    return absl::InvalidArgumentError(
        absl::StrCat(kWhat, " has no list of layers, or too long a one"));
  }
  int64_t total = 0;
  for (const nlohmann::json& entry : layers) {
    absl::StatusOr<Descriptor> layer = ParseDescriptor(entry);
    if (!layer.ok()) {
      return Annotate(layer.status(), kWhat);
    }
    if (!IsLayer(layer->media_type)) {
      return absl::InvalidArgumentError(
          absl::StrCat(kWhat, " has a layer of an unknown kind, ", layer->media_type));
    }
    total += layer->size;  // no overflow: 500 layers of 2^42
    manifest.layers.push_back(*std::move(layer));
  }
  if (total > kMaxImage) {
    return absl::InvalidArgumentError(absl::StrCat(kWhat, " describes more than 4 TiB"));
  }
  return manifest;
}

absl::StatusOr<ImageConfig> ParseConfig(absl::string_view json) {
  constexpr char kWhat[] = "the image config";
  VIBE_ASSIGN_OR_RETURN(const nlohmann::json document, ParseObject(json, kWhat));
  ImageConfig config;
  if (const absl::Status status = ParseProcess(Member(document, "config"), config); !status.ok()) {
    return Annotate(status, kWhat);
  }
  absl::StatusOr<std::vector<std::string>> diff_ids =
      StringsMember(Member(document, "rootfs"), "diff_ids", kMaxLayers, kMaxName);
  if (!diff_ids.ok()) {
    return Annotate(diff_ids.status(), kWhat);
  }
  config.diff_ids = *std::move(diff_ids);
  if (!std::all_of(config.diff_ids.begin(), config.diff_ids.end(),
                   [](const std::string& id) { return IsDigest(id); })) {
    return absl::InvalidArgumentError(
        absl::StrCat(kWhat, " has a diff id that is no sha256 digest"));
  }
  return config;
}

std::vector<std::string> ChainIds(const std::vector<std::string>& diff_ids) {
  std::vector<std::string> chain;
  for (const std::string& diff_id : diff_ids) {
    chain.push_back(chain.empty() ? diff_id
                                  : Sha256Digest(absl::StrCat(chain.back(), " ", diff_id)));
  }
  return chain;
}

}  // namespace vibe::oci
