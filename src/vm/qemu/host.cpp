#include "vm/qemu/host.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/file.h"
#include "base/status.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"

namespace vibe::vm::qemu {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr char kKvm[] = "/dev/kvm";
constexpr char kVhostVsock[] = "/dev/vhost-vsock";
constexpr uint64_t kMaxMemoryBytes = 16 << 10;
constexpr uint64_t kMaxProcessorBytes = 4 << 20;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// 0, or why it does not open.
int OpenError(const char* device) {
  const UniqueFd fd(::open(device, O_RDWR | O_CLOEXEC));
  return fd.valid() ? 0 : errno;
}

std::string BootId() {
  const absl::StatusOr<std::string> id = ReadFile("/proc/sys/kernel/random/boot_id", 1 << 10);
  return id.ok() ? std::string(absl::StripAsciiWhitespace(*id)) : "";
}

KvmVerdict RunTest(const fs::path& qemu, const GuestImage& image, absl::Duration limit) {
  const absl::StatusOr<SubprocessResult> result =
      RunSubprocess({.args = KvmTestCommand(HostArchitecture(), qemu, image), .timeout = limit});
  if (!result.ok()) {
    return {false, absl::StrCat("a guest that was booted with KVM did not get to its first process "
                                "within ",
                                absl::FormatDuration(limit))};
  }
  if (absl::StrContains(result->out, "vibe-init: ")) {
    return {true, "a guest ran with it"};
  }
  std::string why = "without a word";
  for (absl::string_view line : absl::StrSplit(result->err, '\n', absl::SkipWhitespace())) {
    line = absl::StripAsciiWhitespace(line);
    absl::ConsumePrefix(&line, absl::StrCat(qemu.filename().string(), ": "));
    absl::ConsumePrefix(&line, "error: ");
    why = absl::StrCat("qemu: ", line.substr(0, 200));
    break;  // the first one is the cause
  }
  return {false, absl::StrCat("a guest that was booted with KVM died (", why, ")")};
}

}  // namespace

absl::StatusOr<fs::path> FindProgram(absl::string_view name) {
  std::vector<std::string> directories = absl::StrSplit(Variable("PATH"), ':', absl::SkipEmpty());
  if (const std::string home = Variable("HOME"); !home.empty()) {
    directories.push_back(home + "/.cargo/bin");
  }
  for (const std::string& directory : directories) {
    const fs::path path = fs::path(directory) / std::string(name);
    std::error_code error;
    if (fs::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0) {
      return path;
    }
  }
  return absl::NotFoundError(absl::StrCat(name, " is not installed"));
}

absl::StatusOr<fs::path> FindQemu() {
  absl::StatusOr<fs::path> qemu = FindProgram(QemuProgram(HostArchitecture()));
  if (!qemu.ok()) {
    return WithAdvice(
        qemu.status(),
        absl::StrCat(
            "install it, on Debian with `apt-get install --no-install-recommends ",
            HostArchitecture() == Architecture::kX86_64 ? "qemu-system-x86" : "qemu-system-arm",
            "`"));
  }
  return qemu;
}

std::string FileIdentity(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    return path.string();
  }
  return absl::StrCat(path.string(), " ", info.st_size, " ", info.st_mtim.tv_sec, ".",
                      info.st_mtim.tv_nsec);
}

std::string ProcessorIdentity() {
  std::string identity;
  utsname system{};
  if (::uname(&system) == 0) {
    identity = system.release;
  }
  // The first one speaks for all. What changes while it runs, its frequency, is left out.
  const absl::StatusOr<std::string> processors = ReadFile("/proc/cpuinfo", kMaxProcessorBytes);
  const std::string text = processors.ok() ? *processors : "";
  for (const absl::string_view line : absl::StrSplit(text.substr(0, text.find("\n\n")), '\n')) {
    for (const char* key : {"model name", "stepping", "microcode", "flags", "CPU ", "Features"}) {
      if (absl::StartsWith(line, key)) {
        absl::StrAppend(&identity, "\n", line);
      }
    }
  }
  return identity;
}

TransportChoice ChooseTransport() {
  if (OpenError(kVhostVsock) == 0) {
    return {Transport::kVhost, {}};
  }
  if (absl::StatusOr<fs::path> device = FindProgram("vhost-device-vsock"); device.ok()) {
    return {Transport::kDevice, *std::move(device)};
  }
  return {Transport::kSerial, {}};
}

KvmVerdict TestKvm(const fs::path& qemu, const GuestImage& image, const fs::path& memory,
                   absl::Duration limit) {
  if (const int error = OpenError(kKvm); error != 0) {
    return {false, absl::StrCat(kKvm, ": ", std::strerror(error))};
  }
  const json key{
      {"host", BootId()}, {"qemu", FileIdentity(qemu)}, {"kernel", FileIdentity(image.kernel)}};
  if (const absl::StatusOr<std::string> text = ReadFile(memory, kMaxMemoryBytes); text.ok()) {
    const json known = json::parse(*text, nullptr, /*allow_exceptions=*/false);
    if (known.is_object() && known.value("key", json()) == key &&
        known.value("works", json()).is_boolean() && known.value("why", json()).is_string()) {
      return {known["works"].get<bool>(), known["why"].get<std::string>()};
    }
  }
  KvmVerdict verdict = RunTest(qemu, image, limit);
  const json known{{"key", key}, {"works", verdict.works}, {"why", verdict.why}};
  // One that cannot be remembered is made again.
  if (MakeDirectories(memory.parent_path(), 0700).ok()) {
    ReplaceFile(memory, known.dump(2, ' ', false, json::error_handler_t::replace) + "\n", 0600)
        .IgnoreError();
  }
  return verdict;
}

}  // namespace vibe::vm::qemu
