// The machine's network: what its first process sets up in its own network namespace, and what the
// host's half adds from outside.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace vibe::init {

// Loopback up; forwarding for IPv4 and IPv6. In the machine.
absl::Status SetUpNetwork();

// This host's own addresses as CIDRs of one address each, without loopback and link-local ones. On
// the host.
std::vector<std::string> HostAddresses();

// The ranges that this host has routes to, 256 at most, without the default route. On the host.
std::vector<std::string> HostRoutes();

// Why this host cannot give an uplink; empty when it can. On the host.
std::string NoUplinkReason(const std::string& slirp4netns);

}  // namespace vibe::init
