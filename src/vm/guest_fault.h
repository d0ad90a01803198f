// Why the guest's init (src/init/guest/worker.h) gave up, as its console has it. Pure and
// thread-safe.
#pragma once

#include <string>
#include <vector>

namespace vibe::vm {

struct GuestFault {
  std::string message, advice;  // empty: it said nothing
};

// The first fault of the last boot that these lines of the console are of: what follows it, follows
// from it.
GuestFault FindGuestFault(const std::vector<std::string>& console);

}  // namespace vibe::vm
