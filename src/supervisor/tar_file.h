// A flat folder as one ustar file, and back. Thread-safe; blocking.
#pragma once

#include <filesystem>

#include "absl/status/status.h"

namespace vibe::supervisor {

// Writes the regular files of `folder`, sorted by name, to the new file `tar` and syncs it;
// anything else in it is InvalidArgument: nothing of what an app wrote is followed.
absl::Status WriteTar(const std::filesystem::path& folder, const std::filesystem::path& tar);

// Writes the files of a tar that WriteTar made to `folder`, which exists. DataLoss for anything
// else.
absl::Status ReadTar(const std::filesystem::path& tar, const std::filesystem::path& folder);

}  // namespace vibe::supervisor
