#include "vm/backends.h"

#include <cstdlib>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

#ifdef __linux__
#include "vm/native/native_machine.h"
#endif

namespace vibe::vm {
namespace {

#ifdef __linux__
absl::StatusOr<Backend> MakeNative(const BackendOptions& options, std::string reason) {
  std::filesystem::path programs = options.programs;
  if (programs.empty()) {
    std::error_code error;
    programs = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
    if (error) {
      return ErrnoError(error.value(), "find vibe's own programs");
    }
  }
  return Backend{.machine = std::make_unique<native::NativeMachine>(native::NativeMachine::Options{
                     .directory = options.home / "machine" / "native",
                     .init_program = programs / "vibe-native-init",
                 }),
                 .reason = std::move(reason)};
}
#else
absl::StatusOr<Backend> MakeNative(const BackendOptions&, std::string) {
  return absl::UnimplementedError("the native machine exists on Linux only");
}
#endif

}  // namespace

absl::StatusOr<Backend> MakeBackend(const BackendOptions& options) {
  std::string wanted = options.wanted;
  if (const char* variable = std::getenv("VIBE_MACHINE"); wanted.empty() && variable != nullptr) {
    wanted = variable;
  }
  if (wanted == "native") {
    return MakeNative(options, "VIBE_MACHINE asks for it; it shares this host's kernel");
  }
  if (wanted.empty() || wanted == "auto") {
    return MakeNative(options,
                      "this build has no virtual machine for this platform; the native machine "
                      "shares this host's kernel");
  }
  if (wanted == "qemu" || wanted == "vz") {
    return WithAdvice(
        absl::UnimplementedError(absl::StrCat("this build has no \"", wanted, "\" machine")),
        "unset VIBE_MACHINE, or set it to native");
  }
  return WithAdvice(absl::InvalidArgumentError(
                        absl::StrCat("VIBE_MACHINE is \"", wanted, "\", which is no machine")),
                    "unset VIBE_MACHINE, or set it to auto or native");
}

}  // namespace vibe::vm
