// The seccomp profile of every service, as the OCI runtime spec wants it: a list of allowed system
// calls, all others fail. Pure and thread-safe.
#pragma once

#include <nlohmann/json.hpp>

namespace vibe::supervisor {

// For programs of this machine's own architecture only: 32-bit entry points would go round the
// checks of arguments. What needs more privilege than services have (mount, bpf, kernel modules,
// clocks, keyrings, io_uring, new namespaces) is refused, and so are vsock sockets: they reach the
// machine's supervisor.
nlohmann::ordered_json SeccompProfile();

}  // namespace vibe::supervisor
