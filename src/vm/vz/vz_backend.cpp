#include "vm/vz/vz_backend.h"

#include <mach-o/dyld.h>

#include <cstdint>
#include <string>
#include <system_error>
#include <utility>

#include "base/status.h"
#include "vm/guest_image.h"
#include "vm/machine_settings.h"
#include "vm/vz/vz_machine.h"

namespace vibe::vm::vz {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<fs::path> OwnFolder() {
  uint32_t size = 0;
  ::_NSGetExecutablePath(nullptr, &size);
  std::string name(size, '\0');
  std::error_code error;
  if (size > 0 && ::_NSGetExecutablePath(name.data(), &size) == 0) {
    if (fs::path program = fs::canonical(name.c_str(), error); !error) {
      return program.parent_path();
    }
  }
  return absl::InternalError("this program does not know where its own file is");
}

}  // namespace

absl::StatusOr<std::unique_ptr<VirtualMachine>> MakeVzMachine(const fs::path& home,
                                                              const fs::path& programs) {
  VzMachine::Options options;
  options.directory = home / "machine" / "vz";
  fs::path folder = programs;
  if (folder.empty()) {
    VIBE_ASSIGN_OR_RETURN(folder, OwnFolder());
  }
  VIBE_ASSIGN_OR_RETURN(options.image, FindGuestImage(GuestImageDirectories(folder)));
  VIBE_ASSIGN_OR_RETURN(options.guest, ReadGuestOptions(home, /*emulated=*/false));
  return std::make_unique<VzMachine>(std::move(options));
}

}  // namespace vibe::vm::vz
