// Opens streams to the guest's ports, by whichever transport the boot has. Thread-safe.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "vm/qemu/boot.h"
#include "vm/qemu/layout.h"

namespace vibe::vm::qemu {

// Unavailable when nobody listens on the port, DeadlineExceeded when the guest does not answer.
absl::StatusOr<UniqueFd> DialGuest(const Layout& layout, const Boot& boot, uint32_t port,
                                   absl::Time deadline);

}  // namespace vibe::vm::qemu
