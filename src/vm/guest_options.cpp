#include "vm/guest_options.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "nlohmann/json.hpp"

namespace vibe::vm {
namespace {

using nlohmann::json;

constexpr uint32_t kMostDefaultCpus = 8;
constexpr uint32_t kMostEmulatedCpus = 2;
constexpr uint64_t kLeastDefaultMemory = 1024;
constexpr uint64_t kMostDefaultMemory = 4096;
constexpr uint64_t kMostEmulatedMemory = 2048;
// With less, containerd and one small app do not run.
constexpr uint64_t kLeastMemory = 256;
constexpr uint64_t kLeastDisk = 512;
constexpr uint64_t kMostMib = uint64_t{1} << 30;  // so that bytes fit into any integer

absl::StatusOr<uint32_t> ParseCpus(absl::string_view text) {
  uint32_t cpus = 0;
  if (!absl::SimpleAtoi(text, &cpus) || cpus == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is no number of processors; write a whole number such as 4"));
  }
  return cpus;
}

// A number or a string, as text.
absl::StatusOr<std::string> Text(const json& value) {
  if (value.is_string()) {
    return value.get<std::string>();
  }
  if (value.is_number_unsigned()) {
    return absl::StrCat(value.get<uint64_t>());
  }
  return absl::InvalidArgumentError("it has to be a whole number or a text");
}

absl::Status Set(absl::string_view name, absl::string_view text, GuestWishes& wishes) {
  if (name == "cpus") {
    VIBE_ASSIGN_OR_RETURN(wishes.cpus, ParseCpus(text));
  } else if (name == "memory") {
    VIBE_ASSIGN_OR_RETURN(wishes.memory_mib, ParseMebibytes(text));
  } else if (name == "disk") {
    VIBE_ASSIGN_OR_RETURN(wishes.disk_mib, ParseMebibytes(text));
  } else {
    return absl::InvalidArgumentError("there is no such setting; there are cpus, memory and disk");
  }
  return absl::OkStatus();
}

}  // namespace

GuestOptions DefaultGuestOptions(uint32_t host_cpus, uint64_t host_memory_mib, bool emulated) {
  GuestOptions options;
  options.cpus =
      std::clamp(host_cpus, uint32_t{1}, emulated ? kMostEmulatedCpus : kMostDefaultCpus);
  options.memory_mib = std::clamp(host_memory_mib / 2, kLeastDefaultMemory,
                                  emulated ? kMostEmulatedMemory : kMostDefaultMemory);
  return options;
}

absl::StatusOr<uint64_t> ParseMebibytes(absl::string_view text) {
  const std::string lower = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text));
  const size_t unit_at = std::min(lower.find_first_not_of("0123456789"), lower.size());
  const absl::string_view unit = absl::string_view(lower).substr(unit_at);
  uint64_t factor = 0;
  if (unit.empty() || unit == "m" || unit == "mib") {
    factor = 1;
  } else if (unit == "g" || unit == "gib") {
    factor = 1 << 10;
  } else if (unit == "t" || unit == "tib") {
    factor = 1 << 20;
  }
  uint64_t count = 0;
  if (factor == 0 || !absl::SimpleAtoi(absl::string_view(lower).substr(0, unit_at), &count) ||
      count > kMostMib / factor) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" is no size; write it as 4GiB, 700MiB, or a number of MiB such as 4096"));
  }
  return count * factor;
}

absl::StatusOr<GuestWishes> ParseGuestWishes(
    absl::string_view settings, const std::function<std::string(const char*)>& environment) {
  GuestWishes wishes;
  if (!absl::StripAsciiWhitespace(settings).empty()) {
    const json document = json::parse(settings, nullptr, /*allow_exceptions=*/false);
    if (!document.is_object()) {
      return absl::InvalidArgumentError("the machine's settings are not a JSON object");
    }
    for (const auto& [name, value] : document.items()) {
      const std::string where = absl::StrCat("the machine's setting \"", name, "\"");
      const absl::StatusOr<std::string> text = Text(value);
      VIBE_RETURN_IF_ERROR(Annotate(text.status(), where));
      VIBE_RETURN_IF_ERROR(Annotate(Set(name, *text, wishes), where));
    }
  }
  constexpr std::pair<const char*, absl::string_view> kVariables[] = {
      {"VIBE_MACHINE_CPUS", "cpus"},
      {"VIBE_MACHINE_MEMORY", "memory"},
      {"VIBE_MACHINE_DISK", "disk"}};
  for (const auto& [variable, name] : kVariables) {
    if (const std::string value = environment(variable); !value.empty()) {
      VIBE_RETURN_IF_ERROR(Annotate(Set(name, value, wishes), variable));
    }
  }
  return wishes;
}

absl::StatusOr<GuestOptions> ApplyWishes(GuestOptions options, const GuestWishes& wishes,
                                         uint32_t host_cpus) {
  options.cpus = wishes.cpus.value_or(options.cpus);
  options.memory_mib = wishes.memory_mib.value_or(options.memory_mib);
  options.disk_mib = wishes.disk_mib.value_or(options.disk_mib);
  if (options.cpus == 0 || options.cpus > std::max(host_cpus, uint32_t{1})) {
    return absl::InvalidArgumentError(absl::StrCat("the machine cannot have ", options.cpus,
                                                   " processors; this computer allows 1 to ",
                                                   std::max(host_cpus, uint32_t{1})));
  }
  if (options.memory_mib < kLeastMemory || options.memory_mib > kMostMib) {
    return absl::InvalidArgumentError(absl::StrCat("the machine cannot have ", options.memory_mib,
                                                   " MiB of memory; it needs ", kLeastMemory,
                                                   " at least"));
  }
  if (options.disk_mib < kLeastDisk || options.disk_mib > kMostMib) {
    return absl::InvalidArgumentError(absl::StrCat("the data disk cannot have ", options.disk_mib,
                                                   " MiB; it needs ", kLeastDisk, " at least"));
  }
  return options;
}

// panic=-1: a guest whose kernel fails is over at once, and is brought back.
std::string KernelCommandLine(const KernelParameters& parameters) {
  std::string line =
      absl::StrCat("console=", parameters.console, " quiet panic=-1 vibe.net=", parameters.uplink);
  if (!parameters.data_disk.empty()) {
    absl::StrAppend(&line, " vibe.data=", parameters.data_disk);
  }
  for (const std::string& address : parameters.listen) {
    absl::StrAppend(&line, " vibe.listen=", address);
  }
  for (const std::string& address : parameters.forward) {
    absl::StrAppend(&line, " vibe.forward=", address);
  }
  return line;
}

}  // namespace vibe::vm
