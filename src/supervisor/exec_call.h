// vibe.v1.Supervisor/Exec as a gRPC call. The callback interface is used for it, since only that
// one can end a call while a read from the client is pending.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "supervisor/supervisor.h"
#include "supervisor/thread_set.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::supervisor {

// Owns itself until the call has ended. `threads` must outlive the server that made the call.
grpc::ServerBidiReactor<v1::ExecRequest, v1::ExecResponse>* StartExecCall(Supervisor& supervisor,
                                                                          ThreadSet& threads);

}  // namespace vibe::supervisor
