// Looks into an image's filesystem without mounting it: the layers' folders are searched from the
// top. Images are hostile: a symlink in a layer cannot lead out of that layer. Thread-safe.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "containerd/client.h"

namespace vibe::supervisor {

// The folders of an overlay (or bind) mount's layers, topmost first.
std::vector<std::string> LayerDirectories(const std::vector<containerd::Mount>& mounts);

// A file of the image, at most 1 MiB of it; empty when there is none.
std::string ReadImageFile(const std::vector<std::string>& layers, const std::string& path);

// Whether the image's file of settings says anything: more than comments that start with '#'. A
// link does, wherever it leads.
bool HasSettings(const std::vector<std::string>& layers, const std::string& path);

struct Ownership {
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t mode = 0755;
};
// Of a directory of the image; nothing when there is none.
std::optional<Ownership> DirectoryOwnership(const std::vector<std::string>& layers,
                                            const std::string& path);

}  // namespace vibe::supervisor
