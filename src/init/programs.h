// The programs that a native machine is made of, as this host has them.
#pragma once

#include <filesystem>

#include "absl/status/statusor.h"

namespace vibe::init {

// Where programs of the system are looked for: a user's PATH often lacks the sbin directories.
inline constexpr char kPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct Programs {
  std::filesystem::path containerd;
  std::filesystem::path runtime;      // crun, or runc
  std::filesystem::path slirp4netns;  // empty when there is none
  std::filesystem::path cni;          // directory of the CNI plugins
  std::filesystem::path mkfs;         // mkfs.btrfs
  std::filesystem::path supervisor;   // canonical; vibe-logger is beside it
};

// The error names what is missing and how to install it. An empty `supervisor` means the one beside
// this program.
absl::StatusOr<Programs> FindPrograms(const std::filesystem::path& supervisor);

}  // namespace vibe::init
