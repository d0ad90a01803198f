// What the backends have in common whose machine is a process in the background
// (init/background.h): vibe-native-init, vibe-qemu-keeper. Thread-safe.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace vibe::vm::native {

// Absolute and without links, where that can be found out: every process has to name a machine's
// directory alike.
std::filesystem::path CanonicalDirectory(const std::filesystem::path& directory);

// What `program` says when it cannot start: "error: …" and maybe "advice: …".
absl::Status StartError(absl::string_view text, absl::string_view program);

// Until no process holds the lock on `path`: then nothing is left of the machine. A file that is
// not there is locked by nobody. DeadlineExceeded.
absl::Status AwaitUnlocked(const std::filesystem::path& path, absl::Time deadline);

// The last lines of a log, 20 at most; empty when there is none.
std::vector<std::string> LastLines(const std::filesystem::path& log);

}  // namespace vibe::vm::native
