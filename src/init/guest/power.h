// The end of the guest: the button that asks for it, and the steps to it. One thread.
#pragma once

#include <vector>

#include "base/unique_fd.h"

namespace vibe::init::guest {

// Input devices on which a hypervisor presses the power button.
class PowerButton {
 public:
  void Open();  // finds the devices that are there now
  const std::vector<UniqueFd>& devices() const { return devices_; }
  bool Pressed() const;  // reads what waits

 private:
  std::vector<UniqueFd> devices_;
};

// Ctrl-Alt-Del comes as SIGINT from now on.
void CatchCtrlAltDel();

// Unmounts what can be unmounted, writes the rest to the disks, and switches the machine off.
[[noreturn]] void SwitchOff();

}  // namespace vibe::init::guest
