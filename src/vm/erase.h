// Takes a machine's data away. First it is renamed, which is quick and leaves each path whole or
// gone after a crash; then what was renamed is deleted, which may take a while and may be done
// later. Thread-safe; nothing may use the data meanwhile.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "absl/status/status.h"

namespace vibe::vm {

// Renames each path to "erased-<random>" beside it, and syncs the directories. What is not there is
// a success. Twice is harmless.
absl::Status SetDataAside(const std::vector<std::filesystem::path>& data);

// Deletes all that was ever set aside in the directories of these paths. What cannot be deleted is
// left there for the next time; the first error says what.
absl::Status DeleteSetAside(const std::vector<std::filesystem::path>& data);

// What the paths take from this computer's disk, holes not counted; what cannot be read counts as
// nothing.
uint64_t AllocatedBytes(const std::vector<std::filesystem::path>& data);

}  // namespace vibe::vm
