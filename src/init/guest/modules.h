// Loads kernel modules from /usr/lib/vibe/modules, where the image build put them with their load
// order.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace vibe::init::guest {

// All modules of a group ("disk", "network", …), in order. One that is loaded already is a success;
// the kernel makes a second loader of the same module wait for the first, so groups may load at the
// same time in different processes. Goes on after a failure; the error names every module that
// failed.
absl::Status LoadModules(absl::string_view group);

}  // namespace vibe::init::guest
