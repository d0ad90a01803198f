// Whole files, read with a limit and replaced so that a crash at any instant leaves the old bytes
// or the new ones. Thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe {

// NotFound when there is no such file; ResourceExhausted when it is longer than max_bytes.
absl::StatusOr<std::string> ReadFile(const std::filesystem::path& path, uint64_t max_bytes);

// Writes a temporary file beside `path` ("NAME.XXXXXX.unfinished"), syncs it, renames it over
// `path` and syncs the directory.
absl::Status ReplaceFile(const std::filesystem::path& path, absl::string_view content,
                         mode_t mode = 0644);

// Removes the temporary files that ReplaceFile leaves in `directory` when it is killed on the way.
// Only while nobody else replaces files there: for the start of what owns the directory. One that
// is not there is a success.
absl::Status RemoveUnfinished(const std::filesystem::path& directory);

// Makes `path` and its parents. An existing directory is a success; its mode is not changed.
absl::Status MakeDirectories(const std::filesystem::path& path, mode_t mode = 0755);

// Syncs a directory, so that names made or renamed in it survive a power cut.
absl::Status SyncDirectory(const std::filesystem::path& path);

// Removes a file or a whole tree; what is not there is a success. Does not follow symlinks.
absl::Status RemoveAll(const std::filesystem::path& path);

}  // namespace vibe
