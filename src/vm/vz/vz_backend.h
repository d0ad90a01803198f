// The machine that a Mac gets, from what lies in Vibe's folder and beside its programs.
#pragma once

#include <filesystem>
#include <memory>

#include "absl/status/statusor.h"
#include "vm/virtual_machine.h"

namespace vibe::vm::vz {

// Starts nothing. `programs` is the folder of vibe's programs; empty: of the running one. NotFound
// without an image, InvalidArgument for settings that cannot be read.
absl::StatusOr<std::unique_ptr<VirtualMachine>> MakeVzMachine(
    const std::filesystem::path& home, const std::filesystem::path& programs);

}  // namespace vibe::vm::vz
