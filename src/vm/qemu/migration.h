// What qemu is told when a guest is saved and when it goes on: the state of its processors and
// devices goes through a file, its memory stays in the one that it has. Thread-safe for different
// conversations.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "vm/qemu/qmp.h"

namespace vibe::vm::qemu {

// qemu saves no guest that has a device in another process: the guest gives it back first, and gets
// a new one. Both block; errors are Qmp's, DeadlineExceeded when the guest keeps the device.
absl::Status UnplugVsock(Qmp& qmp, absl::Time deadline);
absl::Status PlugVsock(Qmp& qmp, absl::Time deadline);

// Whether the guest's driver uses the device. False also where qemu does not tell.
bool VsockRuns(Qmp& qmp, absl::Time deadline);

// Stops the guest and writes its state to `file`; it does not run again in this qemu.
absl::Status SaveState(Qmp& qmp, const UniqueFd& file, absl::Time deadline);

// Of a qemu that waits for a guest: reads the state. The guest does not run yet.
absl::Status LoadState(Qmp& qmp, const UniqueFd& file, absl::Time deadline);

}  // namespace vibe::vm::qemu
