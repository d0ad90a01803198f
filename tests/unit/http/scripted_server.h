// An HTTP server for tests whose answers the test writes byte for byte. Listens on loopback, or on
// a unix socket; one thread per connection, all joined by the destructor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace vibe::testing {

struct SeenRequest {
  std::string method;
  std::string target;
  std::string head;  // whole, for looking up headers
  std::string body;
  int connection = 0;  // 0 for the first connection

  std::string Header(const std::string& name) const;  // empty when there is none
};

struct ScriptedReply {
  std::string bytes;              // sent as they are
  bool close = false;             // closes the connection after them
  int pause_milliseconds = 0;     // between each byte when slow
  bool hang = false;              // after `bytes`, keeps the connection open and silent
  std::function<void(int)> then;  // takes over the connected fd after `bytes`
};

// A whole answer with Content-Length.
ScriptedReply Reply(int status, const std::string& body,
                    const std::vector<std::string>& headers = {});

class ScriptedServer {
 public:
  using Handler = std::function<ScriptedReply(const SeenRequest&)>;

  explicit ScriptedServer(Handler handler);
  ScriptedServer(const std::filesystem::path& unix_path, Handler handler);
  ~ScriptedServer();

  uint16_t port() const;
  std::string Address() const;  // "127.0.0.1:PORT"
  std::vector<SeenRequest> requests() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vibe::testing
