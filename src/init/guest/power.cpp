#include "init/guest/power.h"

#include <fcntl.h>
#include <linux/input.h>
#include <linux/reboot.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "init/log_pipe.h"

namespace vibe::init::guest {
namespace fs = std::filesystem;
namespace {

bool HasPowerKey(int fd) {
  unsigned char keys[KEY_MAX / 8 + 1] = {};
  return ::ioctl(fd, EVIOCGBIT(EV_KEY, sizeof keys), keys) >= 0 &&
         (keys[KEY_POWER / 8] >> (KEY_POWER % 8) & 1) != 0;
}

}  // namespace

void PowerButton::Open() {
  devices_.clear();
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/dev/input", error)) {
    if (!absl::StartsWith(entry.path().filename().string(), "event")) {
      continue;
    }
    UniqueFd device(::open(entry.path().c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (device.valid() && HasPowerKey(device.get())) {
      devices_.push_back(std::move(device));
    }
  }
}

bool PowerButton::Pressed() const {
  bool pressed = false;
  for (const UniqueFd& device : devices_) {
    input_event event{};
    while (::read(device.get(), &event, sizeof event) == sizeof event) {
      pressed = pressed || (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1);
    }
  }
  return pressed;
}

void CatchCtrlAltDel() {
  ::reboot(LINUX_REBOOT_CMD_CAD_OFF);
}

void SwitchOff() {
  ::sync();
  // Newest first: containers' mounts lie on the data disk. Twice, for what is mounted over another.
  for (int round = 0; round < 2; ++round) {
    const absl::StatusOr<std::string> mounts = ReadFile("/proc/self/mounts", 16 << 20);
    if (!mounts.ok()) {
      break;
    }
    const std::vector<std::string> lines = absl::StrSplit(*mounts, '\n', absl::SkipEmpty());
    for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
      const std::vector<std::string> words = absl::StrSplit(*line, ' ');
      if (words.size() > 2 && absl::StartsWith(words[1], "/run/vibe/")) {
        ::umount2(words[1].c_str(), 0);
      }
    }
  }
  ::sync();
  Say("vibe-init: off");
  ::reboot(LINUX_REBOOT_CMD_POWER_OFF);
  while (true) {
    ::pause();  // the kernel is on its way
  }
}

}  // namespace vibe::init::guest
