// Serves routes over a listening unix socket: docs/api/openapi.yaml, "Transport", "Streamed
// answers" and "Exec". A thread per connection, up to a limit; requests of web pages are refused.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "host/route.h"

namespace vibe::host {

class ApiServer {
 public:
  struct Options {
    std::string version;  // told with every answer
    int max_connections = 200;
    absl::Duration heartbeat = absl::Seconds(15);  // of streamed answers
    absl::Duration idle = absl::Seconds(60);
    absl::Duration request = absl::Seconds(30);
    absl::Duration write = absl::Seconds(30);
  };

  // Serves at once. Handlers are called by many threads.
  ApiServer(UniqueFd listener, std::vector<Route> routes, Options options);
  // Cancels what runs, closes all connections, and returns when no handler runs any more.
  ~ApiServer();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vibe::host
