// Removes what lies in staging/, so that a power cut at any instant leaves a file system that
// mounts. Inside this room only.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace vibe::state {

// `staging` stays the caller's. One that is not there is a success. A subvolume leaves staging/ for
// a folder of its own first, `old-…`, which is there after a crash, for whoever empties staging/.
absl::Status RemoveStagedAt(int staging, const std::string& name);

}  // namespace vibe::state
