// The virtual hardware: what the framework is asked to build. Objective-C++ only.
#pragma once

#import <Virtualization/Virtualization.h>

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "vm/guest_image.h"
#include "vm/guest_options.h"

namespace vibe::vm::vz {

struct Hardware {
  GuestImage image;
  GuestOptions options;
  std::string command_line;
  std::filesystem::path data_disk;  // exists
  std::string mac_address;
  UniqueFd console;  // what the guest's console writes to; the configuration takes it over
};

// A configuration that the framework found valid. InvalidArgument for processors or memory that
// this Mac does not allow.
absl::StatusOr<VZVirtualMachineConfiguration*> MakeConfiguration(Hardware hardware);

}  // namespace vibe::vm::vz
