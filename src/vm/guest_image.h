// The kernel and the initrd that vm-image/build.sh makes. Thread-safe.
#pragma once

#include <filesystem>
#include <vector>

#include "absl/status/statusor.h"

namespace vibe::vm {

struct GuestImage {
  std::filesystem::path kernel, initrd;
};

// The first of `directories` that has both. NotFound says where they were looked for and how they
// are made.
absl::StatusOr<GuestImage> FindGuestImage(const std::vector<std::filesystem::path>& directories);

// Where an image may be: what the environment's VIBE_VM_IMAGE says and nowhere else, or, when that
// is not set, "vm", "vm-image", "share/vibe/vm" and (in Vibe.app) "Resources" beside the folder
// `programs`.
std::vector<std::filesystem::path> GuestImageDirectories(const std::filesystem::path& programs);

}  // namespace vibe::vm
