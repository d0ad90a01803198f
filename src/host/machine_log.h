// Lines of the machine's console log: the file, and the one that was rotated away, as one. Works
// whether the machine runs or not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "host/cancellation.h"

namespace vibe::host {

struct MachineLogOptions {
  uint32_t tail = 100;
  bool follow = false;
};

// Gives the last lines to `sink`, oldest first, as the schema MachineLogLine; with follow, goes on
// with new ones, in the file that takes its place too, until it is cancelled or the sink fails.
// There need be no log yet. Blocking; thread-safe.
absl::Status ReadMachineLog(const std::filesystem::path& path, const MachineLogOptions& options,
                            const std::function<absl::Status(const nlohmann::json&)>& sink,
                            Cancellation& cancel);

// "2026-01-31T12:00:00.123Z text" parted; a line without a time has an empty one. Pure.
nlohmann::json MachineLogLineJson(absl::string_view line);

}  // namespace vibe::host
