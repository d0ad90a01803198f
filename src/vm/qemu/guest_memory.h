// The memory of a guest that was booted is a file in memory, which goes with qemu. Saving the guest
// makes a file of it. Thread-safe.
#pragma once

#include <filesystem>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "vm/qemu/layout.h"

namespace vibe::vm::qemu {

// Of the qemu that runs. NotFound when none does.
absl::StatusOr<UniqueFd> OpenGuestMemory(const Layout& layout);

// Makes `path` a copy of a memory that nobody writes to. What the guest never used, or gave back,
// takes no space in it. Not synced. DeadlineExceeded leaves a part.
absl::Status CopyGuestMemory(const UniqueFd& memory, const std::filesystem::path& path,
                             absl::Time deadline);

}  // namespace vibe::vm::qemu
