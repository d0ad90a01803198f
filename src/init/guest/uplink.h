// The guest's way out: the interface to the host's NAT.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "init/guest/dhcp_message.h"
#include "init/guest/settings.h"

namespace vibe::init::guest {

// Where resolv.conf is, and where the lease is kept for the processes that come later.
inline constexpr char kResolvConf[] = "/run/resolv.conf";
inline constexpr char kLeaseFile[] = "/run/vibe/lease";

// Gives the interface its address, route and nameservers, asking a DHCP server when the settings
// say so, and writes both files.
absl::Status SetUpUplink(const Settings& settings);

// Keeps a DHCP lease alive: renews it at half its time, and gets a new one when that fails. Does
// not return, unless the lease is for ever.
void KeepLease(const Settings& settings);

// The lease that SetUpUplink wrote. NotFound when there is no uplink.
absl::StatusOr<Lease> ReadLease();

// The lease file's text, and back. Pure.
std::string LeaseText(const Lease& lease);
absl::StatusOr<Lease> ParseLease(absl::string_view text);

}  // namespace vibe::init::guest
