// The record of a saved machine: whose save it is, and of which bytes. It is the save: written last
// and removed before anything of the save is used, so that a guest never goes on over a disk that
// was written to since. docs/qemu-machine.md has the whole order. Thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "vm/qemu/boot.h"
#include "vm/qemu/command_line.h"
#include "vm/qemu/layout.h"

namespace vibe::vm::qemu {

// Changes whenever somebody writes to the file, or it is another one.
struct FileMark {
  uint64_t inode = 0;
  uint64_t bytes = 0;
  int64_t modified_ns = 0, changed_ns = 0;  // since 1970

  bool operator==(const FileMark&) const = default;
};
// Of a regular file; NotFound when there is none.
absl::StatusOr<FileMark> MarkOf(const std::filesystem::path& path);

struct Save {
  Boot boot;  // of the saved guest
  FileMark disk, memory;
  std::string state_sha256;  // of the state's file: devices and processors

  bool operator==(const Save&) const = default;
};
std::string FormatSave(const Save& save);
absl::StatusOr<Save> ParseSave(absl::string_view text);

// A digest of all that a saved guest depends on beside its own files: qemu, the image, processors,
// memory, devices, and under KVM the host's processor. Reads the files' sizes and times.
std::string MadeOf(const MachineSpec& spec);

// Makes a save of a machine that ended, from memory, disk and the state's file, which are synced
// first. A power cut at any time leaves a save that is right, or none.
absl::Status RecordSave(const Layout& layout, const Boot& boot);

struct OpenSave {
  Boot boot;
  UniqueFd state;
};
// Uses up the save: whatever comes back, there is none any more, also after a power cut. NotFound
// when there was none; FailedPrecondition says why it cannot be used. `spec` is what would be
// booted. The memory's file is left where it is.
absl::StatusOr<OpenSave> TakeSave(const Layout& layout, const MachineSpec& spec);

// Removes what is there of a save, the record first.
absl::Status DiscardSave(const Layout& layout);

}  // namespace vibe::vm::qemu
