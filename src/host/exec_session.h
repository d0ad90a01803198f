// Carries a command's input, output and end between a client's frames and the machine.
#pragma once

#include "host/cancellation.h"
#include "host/route.h"
#include "host/supervisor_client.h"

namespace vibe::host {

// Switches the protocol and returns when the command or the client has ended; a client that goes
// away ends the command.
absl::Status RunExec(FrameStream& frames, SupervisorClient::Exec& exec, Cancellation& cancel);

}  // namespace vibe::host
