#include "vm/qemu/command_line.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "rpc/ports.h"

namespace vibe::vm::qemu {
namespace {

using Arguments = std::vector<std::string>;

// Translated code: more than this brings nothing and counts as the machine's memory.
constexpr int kTranslationCacheMib = 256;

void Add(Arguments& arguments, const Arguments& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
}

// In qemu's option lists a comma in a value is written twice.
std::string Value(const std::filesystem::path& path) {
  return absl::StrReplaceAll(path.string(), {{",", ",,"}});
}

absl::string_view MachineType(Architecture architecture) {
  return architecture == Architecture::kX86_64 ? "q35" : "virt,gic-version=max";
}

absl::string_view Console(Architecture architecture) {
  return architecture == Architecture::kX86_64 ? "ttyS0" : "ttyAMA0";
}

Arguments Accelerator(bool kvm) {
  return kvm ? Arguments{"-accel", "kvm", "-cpu", "host"}
             : Arguments{"-accel", absl::StrCat("tcg,thread=multi,tb-size=", kTranslationCacheMib),
                         "-cpu", "max"};
}

// The guest's freed blocks leave the file, and zeroes are not written.
Arguments DataDisk(const Layout& layout) {
  return {"-blockdev",
          absl::StrCat("driver=file,node-name=data-file,filename=", Value(layout.disk()),
                       ",discard=unmap,aio=threads"),
          "-blockdev",
          "driver=raw,node-name=data,file=data-file,discard=unmap,detect-zeroes=unmap",
          "-device",
          "virtio-blk-pci,drive=data,serial=vibe-data"};
}

// Shared, as the vsock device maps it too. Not a file on a disk: allocating one page by page takes
// a fifth of a boot, the kernel writes it to the disk all the time, and a full disk kills the
// guest.
std::string MemoryPath(const MachineSpec& spec) {
  return spec.resume ? Value(spec.layout.memory())
                     : absl::StrCat("/proc/self/fd/", kMemoryDescriptor);
}

// The guest reads the secret from a disk that only its root sees. A command line would show it to
// every user of the host, and the kernel's to every container.
Arguments SecretDisk(const Layout& layout) {
  return {"-blockdev",
          absl::StrCat("driver=file,node-name=secret-file,read-only=on,filename=",
                       Value(layout.secret())),
          "-blockdev",
          "driver=raw,node-name=secret,file=secret-file,read-only=on",
          "-device",
          "virtio-blk-pci,drive=secret,serial=vibe-secret"};
}

Arguments Channels(const MachineSpec& spec) {
  switch (spec.boot.transport) {
    case Transport::kVhost:
      return {"-device", absl::StrCat("vhost-vsock-pci,guest-cid=", spec.boot.cid)};
    case Transport::kDevice: {
      // A guest is not saved with its vsock device, but unplugged before and given a new one after:
      // the port is where that can be done.
      Arguments channels{"-device", absl::StrCat("pcie-root-port,id=", kVsockSlot, ",chassis=1"),
                         "-chardev",
                         absl::StrCat("socket,id=vsock,path=", Value(spec.layout.device()))};
      if (!spec.resume) {
        Add(channels, {"-device", absl::StrCat(kVsockDriver, ",id=", kVsockDevice,
                                               ",chardev=vsock,bus=", kVsockSlot)});
      }
      return channels;
    }
    case Transport::kSerial:
      return {"-device",
              "virtio-serial-pci",
              "-chardev",
              absl::StrCat("socket,id=port,server=on,wait=off,path=", Value(spec.layout.port())),
              "-device",
              "virtserialport,chardev=port,name=vibe.rpc"};
  }
  return {};
}

KernelParameters KernelOf(const MachineSpec& spec) {
  KernelParameters kernel{.console = std::string(Console(spec.architecture)),
                          .uplink = "slirp",
                          .data_disk = "",
                          .listen = {},
                          .forward = {}};
  if (spec.boot.transport == Transport::kSerial) {
    kernel.listen = {"serial:vibe.rpc"};
    kernel.forward = {absl::StrCat("tcp:", rpc::kForwardPort)};
  } else {
    kernel.listen = {absl::StrCat("vsock:", rpc::kSupervisorPort)};
    kernel.forward = {absl::StrCat("vsock:", rpc::kForwardPort)};
  }
  return kernel;
}

}  // namespace

Architecture HostArchitecture() {
#ifdef __aarch64__
  return Architecture::kAarch64;
#else
  return Architecture::kX86_64;
#endif
}

absl::string_view QemuProgram(Architecture architecture) {
  return architecture == Architecture::kX86_64 ? "qemu-system-x86_64" : "qemu-system-aarch64";
}

Arguments QemuCommand(const MachineSpec& spec) {
  const Layout& layout = spec.layout;
  // -no-reboot: a guest that resets itself, after a panic too, is a machine that ended.
  Arguments arguments{spec.qemu.string(),
                      "-name",
                      "vibe",
                      "-nodefaults",
                      "-no-user-config",
                      "-no-reboot",
                      "-display",
                      "none",
                      "-sandbox",
                      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
                      "-machine",
                      absl::StrCat(MachineType(spec.architecture), ",memory-backend=memory")};
  Add(arguments, Accelerator(spec.boot.kvm));
  Add(arguments,
      {"-smp", absl::StrCat(spec.guest.cpus), "-m", absl::StrCat(spec.guest.memory_mib, "M"),
       "-object",
       absl::StrCat("memory-backend-file,id=memory,share=on,size=", spec.guest.memory_mib,
                    "M,mem-path=", MemoryPath(spec)),
       "-kernel", spec.image.kernel.string(), "-append", KernelCommandLine(KernelOf(spec)),
       "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-qmp",
       absl::StrCat("unix:", Value(layout.control()), ",server=on,wait=off")});
  Add(arguments, DataDisk(layout));
  if (!spec.boot.secret.empty()) {
    Add(arguments, SecretDisk(layout));
  }
  // IPv4 only: the guest's firewall keeps services from the gateway by its one address.
  std::string network = "user,id=uplink,ipv6=off,restrict=off";
  if (spec.boot.transport == Transport::kSerial) {
    absl::StrAppend(&network, ",hostfwd=tcp:127.0.0.1:", spec.boot.forward_port,
                    "-:", rpc::kForwardPort);
  }
  Add(arguments,
      {"-netdev", network, "-device", "virtio-net-pci,netdev=uplink,romfile=", "-device",
       "virtio-rng-pci", "-device", "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on"});
  Add(arguments, Channels(spec));
  if (spec.resume) {
    // Without the initrd, which nobody reads again: copying it takes as long as loading the guest.
    Add(arguments, {"-S", "-incoming", "defer"});
  } else {
    Add(arguments, {"-initrd", spec.image.initrd.string()});
  }
  return arguments;
}

Arguments VsockDeviceCommand(const MachineSpec& spec) {
  if (spec.boot.transport != Transport::kDevice) {
    return {};
  }
  return {spec.vsock_device.string(), absl::StrCat("--guest-cid=", spec.boot.cid),
          absl::StrCat("--socket=", spec.layout.device().string()),
          absl::StrCat("--uds-path=", spec.layout.vsock().string())};
}

Arguments KvmTestCommand(Architecture architecture, const std::filesystem::path& qemu,
                         const GuestImage& image) {
  Arguments arguments{
      qemu.string(), "-nodefaults", "-no-user-config", "-no-reboot",
      "-display",    "none",        "-machine",        std::string(MachineType(architecture))};
  Add(arguments, Accelerator(true));
  // No guest understands the parameter: vibe-init says so and powers off, which is all that is
  // wanted of it.
  Add(arguments,
      {"-m", "512M", "-kernel", image.kernel.string(), "-initrd", image.initrd.string(), "-append",
       absl::StrCat("console=", Console(architecture), " quiet panic=-1 vibe.kvm-test=1"),
       "-serial", "stdio"});
  return arguments;
}

}  // namespace vibe::vm::qemu
