// Who listens on a port, by the kernel's tables /proc/PID/net/tcp and tcp6. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace vibe::supervisor {

// The loopback address that somebody listens on at `port`, such as "127.0.0.1", when nobody listens
// there on any other address. `tcp` and `tcp6` are the tables' texts; what cannot be read in them
// is passed over.
std::optional<std::string> LoopbackListener(absl::string_view tcp, absl::string_view tcp6,
                                            uint16_t port);

}  // namespace vibe::supervisor
