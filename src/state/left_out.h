// Sockets and fifos: a snapshot has them, since a snapshot of a subvolume takes all, but what is
// made of it has not. Nobody listens at them any more, and a server that finds its old socket may
// refuse to start. Inside this room only. Thread-safe.
#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace vibe::state {

// Removes them from the subvolume that is open as `clone`, which must be the caller's alone. With
// their `paths` from its root (bytes) it costs nothing for other files; nullopt: they are looked
// for, which takes some 0.3 s for a million files. Nested deeper or with more folders in one place
// than a digest's limits, they stay. Cancelled when `stop` asks for it.
absl::Status RemoveLeftOut(int clone, const std::optional<std::vector<std::string>>& paths,
                           const std::stop_token& stop);

}  // namespace vibe::state
