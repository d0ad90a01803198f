// qemu's command line, and that of the vsock device beside it. Pure: the golden test reads them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "vm/guest_image.h"
#include "vm/guest_options.h"
#include "vm/qemu/boot.h"
#include "vm/qemu/layout.h"

namespace vibe::vm::qemu {

enum class Architecture { kX86_64, kAarch64 };
Architecture HostArchitecture();

// The vsock device of Transport::kDevice, as qemu's monitor names it.
inline constexpr char kVsockDriver[] = "vhost-user-vsock-pci";
inline constexpr char kVsockDevice[] = "vsock";
inline constexpr char kVsockSlot[] = "vsock-slot";

// Where qemu finds the memory of a guest that is booted: a file that lives in memory only, and as
// long as somebody has it open. The keeper makes it.
inline constexpr int kMemoryDescriptor = 4;

struct MachineSpec {
  Architecture architecture = Architecture::kX86_64;
  std::filesystem::path qemu;          // the program
  std::filesystem::path vsock_device;  // vhost-device-vsock, for Transport::kDevice
  GuestImage image;
  GuestOptions guest;
  Layout layout;
  Boot boot;
  bool resume = false;  // wait for a saved guest instead of booting one
};

absl::string_view QemuProgram(Architecture architecture);  // "qemu-system-x86_64"

std::vector<std::string> QemuCommand(const MachineSpec& spec);
// Empty when the transport needs none.
std::vector<std::string> VsockDeviceCommand(const MachineSpec& spec);

// Boots the image under KVM just far enough that vibe-init speaks on standard output.
std::vector<std::string> KvmTestCommand(Architecture architecture,
                                        const std::filesystem::path& qemu, const GuestImage& image);

}  // namespace vibe::vm::qemu
