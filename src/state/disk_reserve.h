// A part of the data disk that is kept back, so that what frees space or ends an app can still be
// written when an app has filled the disk: deleting needs room too, in databases, for intents and
// in btrfs's own records. Files in `reserve/` on the data disk; each holds room for data
// (allocated, not written) and for records (extended attributes). They are given up one by one: an
// app that goes on writing takes what the first one was, and not what the next call needs.
//
// Functions of the disk alone: also for the machine's first process, before any program that
// writes. One thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "state/subvolume.h"

namespace vibe::state {

inline constexpr int kReserveParts = 4;

struct ReservePart {
  uint64_t data = 0, metadata = 0;  // bytes
};
// Of a disk of this size; `number` is from 0 to kReserveParts - 1. Pure.
ReservePart ReservePartOf(const FilesystemSpace& space, int number);

// Whether a call that frees space has room to do it.
absl::StatusOr<bool> HasWorkingRoom(const std::filesystem::path& data);

// Gives a part up; what it was is free when this returns. False: none is left.
absl::StatusOr<bool> YieldReserve(const std::filesystem::path& data);

// Takes back what was given up, as far as there is room for it and for work.
absl::Status KeepReserve(const std::filesystem::path& data);

// The bytes that are to be taken back: nobody's room, though free. `space` is the disk's.
uint64_t MissingReserve(const std::filesystem::path& data, const FilesystemSpace& space);

}  // namespace vibe::state
