// What this host has for a virtual machine. Thread-safe.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "vm/guest_image.h"
#include "vm/qemu/boot.h"
#include "vm/qemu/command_line.h"

namespace vibe::vm::qemu {

// A program in the directories of PATH, or in ~/.cargo/bin. NotFound without advice.
absl::StatusOr<std::filesystem::path> FindProgram(absl::string_view name);

// qemu for this host's architecture; NotFound says how to install it.
absl::StatusOr<std::filesystem::path> FindQemu();

// The best transport that this host has, and the vsock device's program for kDevice.
struct TransportChoice {
  Transport transport = Transport::kSerial;
  std::filesystem::path vsock_device;
};
TransportChoice ChooseTransport();

// Changes whenever the file is another one.
std::string FileIdentity(const std::filesystem::path& path);

// What a guest under KVM sees of this host: the processor's make and features, and the kernel.
std::string ProcessorIdentity();

struct KvmVerdict {
  bool works = false;
  std::string why;  // "a guest ran with it", "/dev/kvm: Permission denied"
};

// Whether guests run under KVM here. A /dev/kvm that opens proves nothing: a guest is booted with
// it as far as its first process, once for each boot of this host and each qemu and kernel;
// `memory` is the file that remembers how it went. A test takes at most `limit`.
KvmVerdict TestKvm(const std::filesystem::path& qemu, const GuestImage& image,
                   const std::filesystem::path& memory, absl::Duration limit = absl::Seconds(8));

}  // namespace vibe::vm::qemu
