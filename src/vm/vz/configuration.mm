#import "vm/vz/configuration.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#import "vm/vz/error.h"
#include "vm/vz/resources.h"

namespace vibe::vm::vz {
namespace {

// Nil when the text is not UTF-8.
NSString* String(const std::string& text) {
  return [NSString stringWithUTF8String:text.c_str()];
}

absl::StatusOr<NSURL*> FileUrl(const std::filesystem::path& path) {
  NSString* text = String(path.string());
  NSURL* url = text != nil ? [NSURL fileURLWithPath:text isDirectory:NO] : nil;
  if (url == nil) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", path.string(), "\" is no path that this Mac can use"));
  }
  return url;
}

absl::StatusOr<VZLinuxBootLoader*> BootLoader(const Hardware& hardware) {
  VIBE_ASSIGN_OR_RETURN(NSURL * kernel, FileUrl(hardware.image.kernel));
  VIBE_ASSIGN_OR_RETURN(NSURL * initrd, FileUrl(hardware.image.initrd));
  NSString* command_line = String(hardware.command_line);
  if (command_line == nil) {
    return absl::InvalidArgumentError("the guest's kernel command line is not UTF-8");
  }
  VZLinuxBootLoader* loader = [[VZLinuxBootLoader alloc] initWithKernelURL:kernel];
  loader.initialRamdiskURL = initrd;
  loader.commandLine = command_line;
  return loader;
}

// Cached: uncached disk images have corrupted Linux file systems on Apple silicon. Full: what a
// database in the guest has synced survives a power cut of the Mac.
absl::StatusOr<VZVirtioBlockDeviceConfiguration*> DataDisk(const Hardware& hardware) {
  VIBE_ASSIGN_OR_RETURN(NSURL * url, FileUrl(hardware.data_disk));
  NSError* error = nil;
  VZDiskImageStorageDeviceAttachment* attachment =
      [[VZDiskImageStorageDeviceAttachment alloc] initWithURL:url
                                                     readOnly:NO
                                                  cachingMode:VZDiskImageCachingModeCached
                                          synchronizationMode:VZDiskImageSynchronizationModeFull
                                                        error:&error];
  if (attachment == nil) {
    absl::Status status = StatusFrom(error, absl::StrCat("attach ", hardware.data_disk.string()));
    return status.ok() ? absl::InternalError("the data disk cannot be attached") : status;
  }
  return [[VZVirtioBlockDeviceConfiguration alloc] initWithAttachment:attachment];
}

absl::StatusOr<VZVirtioNetworkDeviceConfiguration*> Network(const Hardware& hardware) {
  VZMACAddress* address = [[VZMACAddress alloc] initWithString:String(hardware.mac_address)];
  if (address == nil) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", hardware.mac_address, "\" is no hardware address"));
  }
  VZVirtioNetworkDeviceConfiguration* network = [[VZVirtioNetworkDeviceConfiguration alloc] init];
  network.attachment = [[VZNATNetworkDeviceAttachment alloc] init];
  network.MACAddress = address;
  return network;
}

VZVirtioConsoleDeviceSerialPortConfiguration* Console(UniqueFd writer) {
  NSFileHandle* handle = [[NSFileHandle alloc] initWithFileDescriptor:writer.release()
                                                       closeOnDealloc:YES];
  VZVirtioConsoleDeviceSerialPortConfiguration* port =
      [[VZVirtioConsoleDeviceSerialPortConfiguration alloc] init];
  port.attachment = [[VZFileHandleSerialPortAttachment alloc] initWithFileHandleForReading:nil
                                                                      fileHandleForWriting:handle];
  return port;
}

}  // namespace

absl::StatusOr<VZVirtualMachineConfiguration*> MakeConfiguration(Hardware hardware) {
  VIBE_RETURN_IF_ERROR(
      CheckResources(hardware.options,
                     {.min_cpus = VZVirtualMachineConfiguration.minimumAllowedCPUCount,
                      .max_cpus = VZVirtualMachineConfiguration.maximumAllowedCPUCount,
                      .min_memory_bytes = VZVirtualMachineConfiguration.minimumAllowedMemorySize,
                      .max_memory_bytes = VZVirtualMachineConfiguration.maximumAllowedMemorySize}));
  VZVirtualMachineConfiguration* machine = [[VZVirtualMachineConfiguration alloc] init];
  machine.platform = [[VZGenericPlatformConfiguration alloc] init];
  machine.CPUCount = hardware.options.cpus;
  machine.memorySize = hardware.options.memory_mib << 20;
  VIBE_ASSIGN_OR_RETURN(machine.bootLoader, BootLoader(hardware));
  VIBE_ASSIGN_OR_RETURN(VZVirtioBlockDeviceConfiguration * disk, DataDisk(hardware));
  VIBE_ASSIGN_OR_RETURN(VZVirtioNetworkDeviceConfiguration * network, Network(hardware));
  machine.storageDevices = @[ disk ];
  machine.networkDevices = @[ network ];
  machine.serialPorts = @[ Console(std::move(hardware.console)) ];
  machine.socketDevices = @[ [[VZVirtioSocketDeviceConfiguration alloc] init] ];
  machine.entropyDevices = @[ [[VZVirtioEntropyDeviceConfiguration alloc] init] ];
  machine.memoryBalloonDevices =
      @[ [[VZVirtioTraditionalMemoryBalloonDeviceConfiguration alloc] init] ];
  NSError* error = nil;
  if (![machine validateWithError:&error]) {
    const absl::Status status = StatusFrom(error, "the virtual machine's configuration");
    return WithAdvice(
        status.ok() ? absl::InvalidArgumentError("the virtual machine's configuration is refused")
                    : status,
        "run the vibed inside Vibe.app: a program needs the entitlement "
        "com.apple.security.virtualization to have a virtual machine");
  }
  return machine;
}

}  // namespace vibe::vm::vz
