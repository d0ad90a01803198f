// The machine's network: what its first process sets up in its own network namespace, and what the
// host's half adds from outside.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace vibe::init {

// Loopback up; forwarding for IPv4 and IPv6. In the machine.
absl::Status SetUpNetwork();

// Why this host cannot give an uplink; empty when it can. On the host.
std::string NoUplinkReason(const std::string& slirp4netns);

}  // namespace vibe::init
