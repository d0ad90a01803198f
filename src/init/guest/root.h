// From the kernel's initial file system to a root that containers can be made under.
#pragma once

#include "absl/status/status.h"

namespace vibe::init::guest {

// /proc, /sys and /dev, in the initial file system. First of all.
absl::Status MountKernelFileSystems();

// Makes the image's root the process's root: the compressed image in the initrd with a tmpfs on
// top, or the unpacked initrd itself. Either way it is a mount with a parent, which the initial
// file system is not, so that pivot_root(2) works. Then the rest: /run, /tmp, /dev/pts and cgroups.
absl::Status SwitchRoot();
absl::Status MountTheRest();

}  // namespace vibe::init::guest
