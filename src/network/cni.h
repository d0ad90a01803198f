// The Container Network Interface, version 1.0.0, spoken to the plugins themselves. CniConfig and
// CheckResult are pure; all is thread-safe.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "network/network.h"

namespace vibe::network {

// What the bridge plugin is told: the project's bridge, the endpoint's addresses, routes to
// everywhere.
std::string CniConfig(const Endpoint& endpoint);

enum class CniCommand { kAdd, kDelete };

// Runs the bridge plugin for the namespace at `netns`. The plugin's own message is in the error.
absl::Status RunCniBridge(const NetworkPaths& paths, CniCommand command, const Endpoint& endpoint,
                          const std::string& netns);

// Whether a plugin's result says that both planned addresses were given.
absl::Status CheckCniResult(absl::string_view json, const Endpoint& endpoint);

// The message in what a plugin that failed wrote.
std::string CniErrorMessage(absl::string_view json);

}  // namespace vibe::network
