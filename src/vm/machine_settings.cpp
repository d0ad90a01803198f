#include "vm/machine_settings.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"

namespace vibe::vm {
namespace {

constexpr uint64_t kMaxBytes = 64 << 10;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

uint64_t HostMemoryMib() {
  const long pages = std::max(0L, ::sysconf(_SC_PHYS_PAGES));
  const long page = std::max(0L, ::sysconf(_SC_PAGESIZE));
  return static_cast<uint64_t>(pages) * static_cast<uint64_t>(page) >> 20;
}

}  // namespace

absl::StatusOr<GuestOptions> ReadGuestOptions(const std::filesystem::path& home, bool emulated) {
  const std::filesystem::path path = home / "machine.json";
  absl::StatusOr<std::string> settings = ReadFile(path, kMaxBytes);
  if (absl::IsNotFound(settings.status())) {
    settings = "";
  }
  VIBE_RETURN_IF_ERROR(settings.status());
  const uint32_t cpus = std::max(1u, std::thread::hardware_concurrency());
  const absl::StatusOr<GuestWishes> wishes = ParseGuestWishes(*settings, Environment);
  absl::StatusOr<GuestOptions> options =
      wishes.ok() ? ApplyWishes(DefaultGuestOptions(cpus, HostMemoryMib(), emulated), *wishes, cpus)
                  : wishes.status();
  if (!options.ok()) {
    return WithAdvice(options.status(), absl::StrCat("correct it in ", path.string(),
                                                     " or in the environment's VIBE_MACHINE_CPUS, "
                                                     "VIBE_MACHINE_MEMORY or VIBE_MACHINE_DISK"));
  }
  return options;
}

}  // namespace vibe::vm
