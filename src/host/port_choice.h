// The host ports that a user chose: "web:8080" for the port of the service web, "web:8080:80" when
// web has several, "dns:5353:53/udp" for one of UDP. Host port 0 lets Vibe choose again. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "host/project_record.h"

namespace vibe::host {

inline constexpr size_t kMaxPortChoices = 100;

struct PortChoice {
  std::string service;
  uint16_t host_port = 0;
  std::optional<uint16_t> container_port;
  std::optional<manifest::Protocol> protocol;
};

absl::StatusOr<PortChoice> ParsePortChoice(absl::string_view text);

// Writes the choices into the project's services. To the advice belongs the path of a project that
// has a port, unless it is empty. An error names what does not fit: a service that
// is not there, a port that is not exposed, one of several that was not named, or, as
// PORT_CONFLICT, a host port that another of `projects`, or of this one, has.
absl::Status ApplyPortChoices(const std::vector<PortChoice>& choices,
                              const std::vector<ProjectRecord>& projects, ProjectRecord& record);

}  // namespace vibe::host
