// Named network namespaces, kept alive by a bind mount as `ip netns` does. Thread-safe; calls for
// one path must not overlap.
#pragma once

#include <filesystem>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace vibe::network {

// Makes the folder for namespaces and shares its mounts, so that removing a namespace removes it
// from every mount namespace that holds a copy. Excludes other callers as long as the result lives.
absl::StatusOr<UniqueFd> LockNamespaces(const std::filesystem::path& directory);

// Makes a network namespace at `path`, runs `prepare` in it. On an error nothing is left.
absl::Status MakeNetNamespace(const std::filesystem::path& path,
                              const std::function<absl::Status()>& prepare);

bool IsNetNamespace(const std::filesystem::path& path);

// Runs `body` on a thread of its own inside the namespace.
absl::Status RunInNetNamespace(const std::filesystem::path& path,
                               const std::function<absl::Status()>& body);

// What is gone already is a success. The namespace itself lives on while a process is in it.
absl::Status RemoveNetNamespace(const std::filesystem::path& path);

}  // namespace vibe::network
