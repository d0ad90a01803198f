// What the host tells the guest on the kernel's command line. Pure.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::init::guest {

enum class Uplink {
  kSlirp,  // qemu's user network: fixed addresses, nothing to ask for
  kDhcp,   // a server gives them, as Apple's NAT does
  kNone,
};

struct Settings {
  Uplink uplink = Uplink::kSlirp;  // vibe.net=slirp|dhcp|none
  std::string data;  // vibe.data=vdb: the data disk where disks have no serial numbers
  // Further addresses for vibe-supervisor, beside its unix sockets: vibe.listen=vsock:1024,
  // vibe.forward=vsock:1025.
  std::vector<std::string> listen;
  std::vector<std::string> forward;
  std::string hostname = "vibe";  // vibe.hostname=
};

// `command_line` is the content of /proc/cmdline. A "vibe." parameter that is unknown or wrong is
// an error that names it: a guest that misunderstands its host must not run.
absl::StatusOr<Settings> ParseSettings(absl::string_view command_line);

}  // namespace vibe::init::guest
