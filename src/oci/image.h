// The JSON documents of an image: index, manifest, config. Formats: OCI image-spec v1 and Docker's
// schema 2 equivalents. Parsing is pure; input is hostile (size, depth and count limits).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::oci {

struct Descriptor {
  std::string media_type;
  std::string digest;  // checked to be a sha256 digest
  int64_t size = 0;    // bytes, >= 0
};

struct Platform {
  std::string os;            // "linux"
  std::string architecture;  // GOARCH: "amd64", "arm64"
};
Platform HostPlatform();  // of this build

bool IsIndex(absl::string_view media_type);     // OCI index or Docker manifest list
bool IsManifest(absl::string_view media_type);  // OCI manifest or Docker schema 2

// The entry of an index for a platform. NotFound lists the platforms that there are.
absl::StatusOr<Descriptor> SelectPlatform(absl::string_view index_json, const Platform& platform);

struct ImageManifest {
  Descriptor config;
  std::vector<Descriptor> layers;  // lowest first
};
absl::StatusOr<ImageManifest> ParseManifest(absl::string_view json);

struct ImageConfig {
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::vector<std::string> env;  // "NAME=value"
  std::string working_dir;
  std::string user;
  std::string stop_signal;            // "SIGTERM" or empty
  std::vector<std::string> diff_ids;  // of the uncompressed layers, lowest first
};
absl::StatusOr<ImageConfig> ParseConfig(absl::string_view json);

// Chain ids as the OCI spec defines them: result[i] names the filesystem of layers 0..i.
std::vector<std::string> ChainIds(const std::vector<std::string>& diff_ids);

}  // namespace vibe::oci
