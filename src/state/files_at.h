// Files by the directory that holds them. Inside this room only; for directories that only the
// supervisor writes. Thread-safe; blocking. Errors are of errno with the name in their message.
#pragma once

#include <dirent.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace vibe::state {

// What ReplaceFileAt writes before it renames; a crash can leave it.
std::string TemporaryName(absl::string_view name);

// ResourceExhausted when it is longer; FailedPrecondition when it is no regular file.
absl::StatusOr<std::string> ReadFileAt(int directory, const std::string& name, uint64_t max_bytes);

// Writes a temporary file, syncs it, renames it over `name` and syncs the directory. Two threads
// must not replace one file at the same time.
absl::Status ReplaceFileAt(int directory, const std::string& name, absl::string_view content);

absl::StatusOr<UniqueFd> OpenDirectoryAt(int directory, const std::string& name);

struct DirectoryCloser {
  void operator()(DIR* directory) const { ::closedir(directory); }
};
using DirectoryStream = std::unique_ptr<DIR, DirectoryCloser>;

// For readdir, from the first entry of the directory that is open as `fd`, which it takes over.
// nullptr, with errno set, when it cannot be listed.
DirectoryStream ReadDirectory(UniqueFd fd);

// For directories that an app writes: it can put a symlink in any place at any time. No step of
// `path` is one, and none leaves `directory` or its file system; empty: the directory itself.
// Invalid, with errno set, when it cannot be opened.
UniqueFd OpenBeneath(int directory, const std::string& path, uint64_t flags);

// Makes it if it is not there (mode 0700), and its name last.
absl::StatusOr<UniqueFd> EnsureDirectoryAt(int directory, const std::string& name);

// RENAME_NOREPLACE, and both directories synced.
absl::Status MoveAt(int from_directory, const std::string& from, int to_directory,
                    const std::string& to);

absl::StatusOr<bool> ExistsAt(int directory, const std::string& name);
absl::Status SyncAt(int directory);

// Without "." and ".."; in byte order.
absl::StatusOr<std::vector<std::string>> ListAt(int directory);

// Removes a file, a subvolume, or a folder with files, subvolumes and folders in it, at most 64
// below each other; what is not there is a success.
absl::Status RemoveAt(int directory, const std::string& name);

// Unlinks a file and syncs the directory; what is not there is a success.
absl::Status RemoveFileAt(int directory, const std::string& name);

}  // namespace vibe::state
