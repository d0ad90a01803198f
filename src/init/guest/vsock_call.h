// A saved machine comes back with a new vsock device (docs/qemu-machine.md). The guest calls the
// host through it as soon as its driver runs: then, and not before, the host may call the guest.
// One thread.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace vibe::init::guest {

// Whether the kernel's message says that a driver took a vsock device. Pure.
bool SaysVsockIsThere(absl::string_view uevent);

class VsockCall {
 public:
  void Open();  // hears of devices from now on; without it the host waits in vain, and boots
  // What to poll: the first for input, the second for its end; -1 when there is none.
  int events() const { return events_.get(); }
  int call() const { return call_.get(); }
  // Reads what waits, and calls again when nobody answered. Never blocks.
  void Pump();

 private:
  UniqueFd events_, call_;
  int calls_ = 0;  // since the driver came
};

}  // namespace vibe::init::guest
