// The qemu machine from what lies in Vibe's folder and beside its programs, and whether this
// computer is better off with it or with the native one.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vm/qemu/host.h"
#include "vm/virtual_machine.h"

namespace vibe::vm::qemu {

// Starts nothing.
std::unique_ptr<VirtualMachine> MakeQemuMachine(const std::filesystem::path& home,
                                                const std::filesystem::path& programs);

// What the choice depends on.
struct Facts {
  absl::Status qemu, image;  // why there is none
  KvmVerdict kvm;
  bool root = false;
  bool native_data = false, qemu_data = false;  // projects' data of an earlier machine
};
// May boot a test guest, see TestKvm.
Facts LookAround(const std::filesystem::path& home, const std::filesystem::path& programs);

// Whether KVM is used, for the reason of a machine that somebody asked for.
std::string DescribeAcceleration(const Facts& facts);

struct Choice {
  bool qemu = false;  // else the native machine
  std::string reason;
};
// A virtual machine where guests run under KVM; the native machine where they do not, unless only
// emulation works for who is not root. A machine that has the projects' data is kept. Pure.
Choice ChooseMachine(const Facts& facts);

}  // namespace vibe::vm::qemu
