#include "vm/backends.h"

#include <cstdlib>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "vm/machine_settings.h"

#ifdef __linux__
#include "vm/native/native_machine.h"
#include "vm/qemu/qemu_backend.h"
#endif
#ifdef __APPLE__
#include "vm/vz/vz_backend.h"
#endif

namespace vibe::vm {
namespace {

#ifdef __linux__
absl::StatusOr<std::filesystem::path> Programs(const BackendOptions& options) {
  if (!options.programs.empty()) {
    return options.programs;
  }
  std::error_code error;
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) {
    return ErrnoError(error.value(), "find vibe's own programs");
  }
  return own.parent_path();
}

absl::StatusOr<Backend> MakeNative(const BackendOptions& options, std::string reason) {
  VIBE_ASSIGN_OR_RETURN(const std::filesystem::path programs, Programs(options));
  return Backend{.machine = std::make_unique<native::NativeMachine>(native::NativeMachine::Options{
                     .directory = options.home / "machine" / "native",
                     .init_program = programs / "vibe-native-init",
                     .disk_bytes = [home = options.home]() -> absl::StatusOr<uint64_t> {
                       VIBE_ASSIGN_OR_RETURN(const GuestOptions guest,
                                             ReadGuestOptions(home, /*emulated=*/false));
                       return guest.disk_mib << 20;
                     },
                 }),
                 .reason = std::move(reason)};
}

absl::StatusOr<Backend> MakeQemu(const BackendOptions& options) {
  VIBE_ASSIGN_OR_RETURN(const std::filesystem::path programs, Programs(options));
  const qemu::Facts facts = qemu::LookAround(options.home, programs);
  return Backend{.machine = qemu::MakeQemuMachine(options.home, programs),
                 .reason = absl::StrCat("VIBE_MACHINE asks for it; it runs ",
                                        qemu::DescribeAcceleration(facts))};
}

absl::StatusOr<Backend> MakeAutomatic(const BackendOptions& options) {
  VIBE_ASSIGN_OR_RETURN(const std::filesystem::path programs, Programs(options));
  qemu::Choice choice = qemu::ChooseMachine(qemu::LookAround(options.home, programs));
  if (choice.qemu) {
    return Backend{.machine = qemu::MakeQemuMachine(options.home, programs),
                   .reason = std::move(choice.reason)};
  }
  return MakeNative(options, std::move(choice.reason));
}
#else
absl::StatusOr<Backend> MakeNative(const BackendOptions&, std::string) {
  return absl::UnimplementedError("the native machine exists on Linux only");
}
#endif

#ifdef __APPLE__
absl::StatusOr<Backend> MakeVz(const BackendOptions& options, std::string reason) {
  VIBE_ASSIGN_OR_RETURN(std::unique_ptr<VirtualMachine> machine,
                        vz::MakeVzMachine(options.home, options.programs));
  return Backend{.machine = std::move(machine), .reason = std::move(reason)};
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
#ifdef __linux__
  if (wanted == "qemu") {
    return MakeQemu(options);
  }
  if (wanted.empty() || wanted == "auto") {
    return MakeAutomatic(options);
  }
#endif
#ifdef __APPLE__
  if (wanted == "vz") {
    return MakeVz(options, "VIBE_MACHINE asks for it");
  }
  if (wanted.empty() || wanted == "auto") {
    return MakeVz(options, "a Mac's own virtualization (Apple's Virtualization framework)");
  }
#endif
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
                    "unset VIBE_MACHINE, or set it to auto, native, qemu (Linux) or vz (macOS)");
}

}  // namespace vibe::vm
