// The JSON of projects and log lines, made of what the host remembers and what the machine says.
// Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/app_folder.h"
#include "host/port_forwarder.h"
#include "host/project_record.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::host {

inline constexpr std::string_view kStopped = "stopped";
inline constexpr std::string_view kUnknown = "unknown";  // the machine runs and does not tell

// The schema Project. `live` is null when the machine does not run, does not know the project or
// does not tell: then everything has the status `otherwise`. `traffic` is of its open ports.
// `message` is shown unless the record itself has something to say.
nlohmann::json ProjectJson(const ProjectRecord& record, const v1::Project* live,
                           const std::vector<PortTraffic>& traffic, const std::string& message,
                           std::string_view otherwise);

nlohmann::json TimeJson(const google::protobuf::Timestamp& time);

// The schema LogLine.
nlohmann::json LogLineJson(const v1::LogLine& line);

// The capabilities that an app wants, as the schema Capability.
nlohmann::json CapabilitiesJson(const manifest::Manifest& manifest, const Decisions& decisions);

// The names of the wanted ones that nobody has decided.
std::vector<std::string> Undecided(const manifest::Manifest& manifest, const Decisions& decisions);

manifest::Protocol ToManifest(relay::Protocol protocol);

// The ports that the record exposes, with the host ports that it remembers.
std::vector<ForwardedPort> ExposedPorts(const ProjectRecord& record);

// The ports to forward: those that the machine's project exposes; host ports as the record
// remembers them, else 0.
std::vector<ForwardedPort> PortsToForward(const ProjectRecord& record, const v1::Project& live);

// The services that the machine's project has; host ports as the record remembers them, else 0.
std::vector<RecordedService> ServicesOf(const ProjectRecord& record, const v1::Project& live);

// Whether a process of the project may run.
bool IsActive(const v1::Project& live);

std::string_view StatusWord(v1::Status status);

}  // namespace vibe::host
