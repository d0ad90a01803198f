// One request of a connection: finds its route, calls the handler, writes the answer. Thread-safe
// towards different connections.
#pragma once

#include <vector>

#include "absl/time/time.h"
#include "host/client_watch.h"
#include "host/http_connection.h"
#include "host/route.h"

namespace vibe::host {

struct Exchange {
  const std::vector<Route>& routes;
  ClientWatch& watch;
  absl::Duration write_patience;
};

// Whether the connection can take another request.
bool Answer(const Exchange& exchange, HttpConnection& connection, const HttpRequest& request,
            Cancellation& cancel);

// An error document. `http_status` 0: what fits the status.
bool AnswerError(HttpConnection& connection, const absl::Status& status, int http_status,
                 bool keep_alive, const HttpConnection::Headers& headers = {});

}  // namespace vibe::host
