#include "host/progress.h"

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"

namespace vibe::host {

Progress FromProto(const v1::Progress& progress) {
  // "PHASE_FETCH" is "fetch".
  const std::string name = v1::Progress::Phase_Name(progress.phase());
  return {absl::AsciiStrToLower(absl::StripPrefix(name, "PHASE_")),
          progress.service(),
          progress.item(),
          progress.done(),
          progress.total(),
          progress.unit()};
}

std::function<void(const v1::Progress&)> Forward(const ProgressSink& progress) {
  return [&progress](const v1::Progress& event) { progress(FromProto(event)); };
}

nlohmann::json ProgressJson(const Progress& progress) {
  return {{"phase", progress.phase}, {"service", progress.service}, {"item", progress.item},
          {"done", progress.done},   {"total", progress.total},     {"unit", progress.unit}};
}

}  // namespace vibe::host
