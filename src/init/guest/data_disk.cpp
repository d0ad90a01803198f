#include "init/guest/data_disk.h"

#include <system_error>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/file.h"
#include "base/status.h"
#include "init/data_file_system.h"

namespace vibe::init::guest {
namespace fs = std::filesystem;
namespace {

constexpr char kSerial[] = "vibe-data";
constexpr char kMakeFileSystem[] = "/usr/sbin/mkfs.btrfs";
constexpr absl::Duration kDiskWait = absl::Seconds(10);
constexpr absl::Duration kPoll = absl::Milliseconds(10);

std::string SerialOf(const std::string& name) {
  // The kernel asks the device each time; a device without a serial number gives an error or
  // nothing.
  const absl::StatusOr<std::string> serial =
      ReadFile(absl::StrCat("/sys/block/", name, "/serial"), 4096);
  return serial.ok() ? std::string(absl::StripSuffix(*serial, "\n")) : "";
}

std::string Look(const std::string& wanted) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/sys/block", error)) {
    const std::string name = entry.path().filename();
    if (wanted.empty() ? SerialOf(name) == kSerial : name == wanted) {
      return absl::StrCat("/dev/", name);
    }
  }
  return "";
}

absl::StatusOr<std::string> FindDisk(const std::string& wanted) {
  const absl::Time deadline = absl::Now() + kDiskWait;
  while (true) {
    if (std::string found = Look(wanted); !found.empty()) {
      return found;
    }
    if (absl::Now() >= deadline) {
      return absl::NotFoundError(
          wanted.empty() ? absl::StrCat("there is no disk with the serial number ", kSerial)
                         : absl::StrCat("there is no disk ", wanted));
    }
    absl::SleepFor(kPoll);
  }
}

}  // namespace

absl::Status MountDataDisk(const std::string& device, const fs::path& target) {
  VIBE_ASSIGN_OR_RETURN(const std::string disk, FindDisk(device));
  return MountDataFileSystem(disk, target, kMakeFileSystem);
}

}  // namespace vibe::init::guest
