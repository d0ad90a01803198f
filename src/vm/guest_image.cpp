#include "vm/guest_image.h"

#include <cstdlib>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"

namespace vibe::vm {
namespace fs = std::filesystem;

absl::StatusOr<GuestImage> FindGuestImage(const std::vector<fs::path>& directories) {
  for (const fs::path& directory : directories) {
    GuestImage image{.kernel = directory / "kernel", .initrd = directory / "initrd"};
    std::error_code error;
    if (fs::is_regular_file(image.kernel, error) && fs::is_regular_file(image.initrd, error)) {
      return image;
    }
  }
  return WithAdvice(
      absl::NotFoundError(absl::StrCat(
          "there is no machine image (kernel and initrd) in ",
          absl::StrJoin(directories, " or ",
                        [](std::string* out, const fs::path& path) { *out += path.string(); }))),
      "build it with `make bundle-vm`, or set VIBE_VM_IMAGE to the folder that has it");
}

std::vector<fs::path> GuestImageDirectories(const fs::path& programs) {
  if (const char* given = std::getenv("VIBE_VM_IMAGE"); given != nullptr && *given != '\0') {
    return {given};
  }
  const fs::path prefix = programs.parent_path();
  return {prefix / "vm", prefix / "vm-image", prefix / "share" / "vibe" / "vm",
          prefix / "Resources"};
}

}  // namespace vibe::vm
