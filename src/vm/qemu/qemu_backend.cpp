#include "vm/qemu/qemu_backend.h"

#include <unistd.h>

#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vm/guest_image.h"
#include "vm/machine_settings.h"
#include "vm/native/layout.h"
#include "vm/qemu/layout.h"
#include "vm/qemu/qemu_machine.h"

namespace vibe::vm::qemu {
namespace fs = std::filesystem;
namespace {

// vibed's start waits for it, once in each boot of the host.
constexpr absl::Duration kKvmTestLimit = absl::Seconds(5);

Layout LayoutIn(const fs::path& home) {
  return Layout{home / "machine" / "qemu"};
}

std::string WhyNoKvm(const Facts& facts) {
  return !facts.qemu.ok()    ? std::string(facts.qemu.message())
         : !facts.image.ok() ? std::string(facts.image.message())
                             : absl::StrCat("KVM does not work here: ", facts.kvm.why);
}

}  // namespace

std::unique_ptr<VirtualMachine> MakeQemuMachine(const fs::path& home, const fs::path& programs) {
  QemuMachine::Options options;
  options.directory = LayoutIn(home).directory;
  options.keeper = programs / "vibe-qemu-keeper";
  options.images = GuestImageDirectories(programs);
  options.guest = [home](bool emulated) { return ReadGuestOptions(home, emulated); };
  return std::make_unique<QemuMachine>(std::move(options));
}

Facts LookAround(const fs::path& home, const fs::path& programs) {
  Facts facts;
  std::error_code error;
  facts.root = ::geteuid() == 0;
  facts.native_data = fs::exists(native::Layout{home / "machine" / "native"}.disk(), error);
  facts.qemu_data = fs::exists(LayoutIn(home).disk(), error);
  const absl::StatusOr<fs::path> qemu = FindQemu();
  const absl::StatusOr<GuestImage> image = FindGuestImage(GuestImageDirectories(programs));
  facts.qemu = qemu.status();
  facts.image = image.status();
  if (qemu.ok() && image.ok()) {
    facts.kvm = TestKvm(*qemu, *image, LayoutIn(home).kvm_test(), kKvmTestLimit);
  }
  return facts;
}

std::string DescribeAcceleration(const Facts& facts) {
  return facts.kvm.works ? "with KVM"
                         : absl::StrCat("in software, which is slow (", WhyNoKvm(facts), ")");
}

Choice ChooseMachine(const Facts& facts) {
  const bool can_boot = facts.qemu.ok() && facts.image.ok();
  const std::string native_shares = "the native machine shares this host's kernel";
  if (facts.native_data && !facts.qemu_data) {
    return {false, absl::StrCat("this computer's projects are in it; ", native_shares,
                                ", and VIBE_MACHINE=qemu begins a virtual one")};
  }
  if (can_boot && facts.qemu_data && !facts.native_data) {
    return {true, absl::StrCat("this computer's projects are in it; it runs ",
                               DescribeAcceleration(facts))};
  }
  if (can_boot && facts.kvm.works) {
    return {true, "guests run under KVM here"};
  }
  if (can_boot && !facts.root) {
    return {true, absl::StrCat("it runs ", DescribeAcceleration(facts),
                               "; the native machine would need root")};
  }
  return {false, absl::StrCat("no virtual machine: ", WhyNoKvm(facts), "; ", native_shares)};
}

}  // namespace vibe::vm::qemu
