// What the two halves of vibe-native-init share: the host's half makes it, the machine's half
// inherits it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "init/programs.h"
#include "vm/native/cgroup.h"
#include "vm/native/layout.h"

namespace vibe::init {

struct Plan {
  vm::native::Layout layout;
  Programs programs;
  std::vector<vm::native::CgroupHierarchy> hierarchies;  // of the host
  bool uplink = false;
  std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
};

// For the boot's timeline.
inline int64_t MillisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                               start)
      .count();
}

}  // namespace vibe::init
