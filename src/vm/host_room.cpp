#include "vm/host_room.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace vibe::vm {

std::string NoRoom(const std::filesystem::path& directory) {
  std::filesystem::path path = directory;
  struct statvfs space {};
  while (::statvfs(path.c_str(), &space) != 0) {
    if (!path.has_relative_path()) {
      return "";
    }
    path = path.parent_path();
  }
  const uint64_t blocks = ::geteuid() == 0 ? space.f_bfree : space.f_bavail;
  const uint64_t free = blocks * uint64_t{space.f_frsize};
  return free >= kLeastRoom
             ? ""
             : absl::StrCat("this computer's disk is full: ", free >> 20, " MiB are free in ",
                            directory.string(), ", and the machine needs ", kLeastRoom >> 20);
}

absl::Status CheckRoom(const std::filesystem::path& directory) {
  const std::string full = NoRoom(directory);
  return full.empty()
             ? absl::OkStatus()
             : WithAdvice(Error(absl::StatusCode::kResourceExhausted, Reason::kDiskLow, full),
                          "free space on this computer, and try again");
}

}  // namespace vibe::vm
