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

// The schema Project. `live` is null when the machine does not run or does not know the project:
// then all is stopped. `message` is shown unless the record itself has something to say.
nlohmann::json ProjectJson(const ProjectRecord& record, const v1::Project* live,
                           const std::string& message);

nlohmann::json TimeJson(const google::protobuf::Timestamp& time);

// The schema LogLine.
nlohmann::json LogLineJson(const v1::LogLine& line);

// The capabilities that an app wants, as the schema Capability.
nlohmann::json CapabilitiesJson(const manifest::Manifest& manifest, const Decisions& decisions);

// The names of the wanted ones that nobody has decided.
std::vector<std::string> Undecided(const manifest::Manifest& manifest, const Decisions& decisions);

// The ports to forward: TCP, exposed by the machine's project; host ports as the record remembers
// them, else 0.
std::vector<ForwardedPort> PortsToForward(const ProjectRecord& record, const v1::Project& live);

// Whether a process of the project may run.
bool IsActive(const v1::Project& live);

std::string_view StatusWord(v1::Status status);

}  // namespace vibe::host
