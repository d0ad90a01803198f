// Gives what was freed in the data file system back to the file beneath it, on the host. btrfs'
// own discard=async does that too, but leaves a block group that is still in use alone for two
// minutes (docs/vm-image.md has the figures); it stays on for what is too little to be worth a
// trim. For the VM and the native machine both.
#pragma once

#include <cstdint>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace vibe::init {

// Decides when a trim is worth its while: when much was freed and the freeing has come to its end,
// or goes on for long. Pure; one thread.
class FreedSpace {
 public:
  // `free` bytes at the `start`. What was freed before it is trimmed as well, once the machine has
  // had time to start.
  FreedSpace(uint64_t free, absl::Time start) : start_(start), least_(free), last_(free) {}

  // To be asked every kLook with the file system's free bytes. True: trim now.
  bool Due(uint64_t free, absl::Time now);

  static constexpr absl::Duration kLook = absl::Seconds(5);
  static constexpr absl::Duration kAfterStart = absl::Minutes(1);
  static constexpr absl::Duration kPatience = absl::Seconds(15);
  static constexpr uint64_t kWorthIt = uint64_t{64} << 20;
  static constexpr uint64_t kStill = uint64_t{1} << 20;

 private:
  const absl::Time start_;
  bool started_ = false;
  uint64_t least_;  // free bytes, since the last trim
  uint64_t last_;
  absl::Time waiting_since_ = absl::InfiniteFuture();
};

// Watches the file system mounted at `target` and trims it; for a process of its own. Returns when
// the file system cannot be watched or trimmed; with success where its disk has no use for trims.
absl::Status KeepTrimmed(const std::filesystem::path& target);

}  // namespace vibe::init
