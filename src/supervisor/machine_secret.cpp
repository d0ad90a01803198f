#include "supervisor/machine_secret.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::supervisor {
namespace fs = std::filesystem;
namespace {

constexpr char kSerial[] = "vibe-secret";
constexpr size_t kDigits = 64;

}  // namespace

absl::StatusOr<std::string> ReadMachineSecret(const fs::path& sys, const fs::path& dev) {
  std::error_code error;
  for (const fs::directory_entry& disk : fs::directory_iterator(sys / "block", error)) {
    const absl::StatusOr<std::string> serial = ReadFile(disk.path() / "serial", 4096);
    if (!serial.ok() || absl::StripAsciiWhitespace(*serial) != kSerial) {
      continue;
    }
    const fs::path device = dev / disk.path().filename();
    const UniqueFd fd(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
    std::string secret(kDigits, '\0');
    if (!fd.valid() ||
        ::pread(fd.get(), secret.data(), kDigits, 0) != static_cast<ssize_t>(kDigits) ||
        !std::all_of(secret.begin(), secret.end(),
                     [](unsigned char c) { return absl::ascii_isxdigit(c); })) {
      return absl::FailedPreconditionError(
          absl::StrCat("the machine's secret cannot be read from ", device.string()));
    }
    return secret;
  }
  return "";
}

}  // namespace vibe::supervisor
