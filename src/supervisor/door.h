// Where connections from the host come in. Those that others could make too (a TCP port, a vsock
// port of a machine that has a secret) must begin with the secret and a newline; what follows is
// the connection. One that does not is closed without a word.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "supervisor/address.h"
#include "supervisor/serial_port.h"

namespace vibe::supervisor {

class Door {
 public:
  // Called on the door's own thread. Connections wait while it blocks.
  using Sink = std::function<void(UniqueFd)>;

  // Connections queue from here on, and are taken from Serve on. FailedPrecondition for a TCP or
  // serial port without a secret.
  static absl::StatusOr<std::unique_ptr<Door>> Open(const std::vector<std::string>& addresses,
                                                    const std::string& secret);
  ~Door();

  void Serve(Sink sink);
  void Close();  // takes no more; what was passed on is not touched

 private:
  struct Listener {
    UniqueFd fd;
    Address::Kind kind = Address::Kind::kUnix;
  };
  // A connection whose secret has not come yet.
  struct Visitor {
    UniqueFd fd;
    absl::Time until;
    std::string said;
  };
  Door(std::vector<Listener> listeners, std::vector<std::unique_ptr<SerialPort>> ports,
       std::string secret);
  void Run();
  void Accept(const Listener& listener);
  // Whether the visitor's time is over: let in, or sent away.
  bool Hear(Visitor& visitor);

  const std::vector<Listener> listeners_;
  const std::vector<std::unique_ptr<SerialPort>> ports_;
  const std::string secret_;
  const UniqueFd stop_;  // an eventfd
  Sink sink_;
  std::vector<Visitor> visitors_;  // of the thread
  std::thread thread_;
};

}  // namespace vibe::supervisor
