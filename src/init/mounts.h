// The machine's own view of the file system: the host's files, with private /proc, /sys, /run,
// /dev/shm and cgroups. For the machine's first process, in its new namespaces.
#pragma once

#include <filesystem>
#include <vector>

#include "absl/status/status.h"
#include "vm/native/cgroup.h"
#include "vm/native/layout.h"

namespace vibe::init {

struct MountOptions {
  vm::native::Layout layout;
  std::filesystem::path programs;                        // seen as inside::kBin
  std::filesystem::path mkfs;                            // mkfs.btrfs
  std::vector<vm::native::CgroupHierarchy> hierarchies;  // of the host
  bool nameserver = false;                               // /etc/resolv.conf names the uplink's
};

// The data disk's file must be there already.
absl::Status MakeMounts(const MountOptions& options);

// Unmounts data, so that nothing of it is busy on the host afterwards.
void Unmount();

}  // namespace vibe::init
