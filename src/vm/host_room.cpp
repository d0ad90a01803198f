#include "vm/host_room.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

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

}  // namespace vibe::vm
