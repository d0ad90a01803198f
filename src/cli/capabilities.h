// What an app asks to be allowed, in words, and the answers. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/json_fields.h"

namespace vibe::cli {

struct Capability {
  std::string name;              // "network", "exposePorts", "hostFileImport"
  std::optional<bool> decision;  // nullopt: not answered yet
  std::string detail;            // completes "wants to", for this app; may be empty
};

// Of an answer to /v1/inspect. What has no name is left out.
std::vector<Capability> ParseCapabilities(const Json& inspection);

std::vector<std::string> CapabilityNames();  // all that this version knows
bool IsCapability(const std::string& name);

// "reach the internet"; "use NAME" for one that this version does not know.
std::string DescribeCapability(const std::string& name);

// "Notes wants to reach the internet.", what a yes means, and "Allow it?", in lines.
std::string CapabilityQuestion(const std::string& app, const Capability& capability);

}  // namespace vibe::cli
