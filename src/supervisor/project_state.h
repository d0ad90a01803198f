// A project's folder on the data disk as a whole. Thread-safe; blocking.
#pragma once

#include <filesystem>

#include "absl/status/status.h"

namespace vibe::supervisor {

// Removes `current`, all snapshots and everything else of it. What is gone already is a success, so
// that an interrupted removal can be finished. Nothing may use the folder any more.
absl::Status DestroyProjectState(const std::filesystem::path& directory);

}  // namespace vibe::supervisor
