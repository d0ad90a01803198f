// A virtio-serial port as a row of connections, one at a time. A host that comes greets
// (serial_greeting.h); what it and the machine had said before is forgotten, and "OK <nonce>\n"
// goes back; then bytes flow. The end of a connection on this side, of which a serial port tells
// the host nothing, is told by bytes that are no HTTP/2: the host's gRPC gives its end up at once,
// also when the supervisor was killed and this is the next one. The host's next greeting begins
// anew.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "supervisor/serial_greeting.h"

namespace vibe::supervisor {

class SerialPort {
 public:
  // By the name that the hypervisor gave it. Waits a few seconds for the device: its driver may
  // still be starting.
  static absl::StatusOr<std::unique_ptr<SerialPort>> Open(const std::string& name,
                                                          const std::string& secret);
  // On a descriptor of it, or of anything else that carries bytes both ways.
  SerialPort(UniqueFd port, const std::string& secret);
  ~SerialPort();

  // Gives one end of a new socket pair for each connection, on the port's own thread.
  void Serve(std::function<void(UniqueFd)> sink);
  void Close();

 private:
  // What ended a connection, or the wait for one.
  enum class Event { kClosed, kEnded, kGreeted };
  void Run();
  void BreakStream();
  Event AwaitHost();
  bool Answer();
  Event Carry(UniqueFd end);

  const UniqueFd port_;
  const UniqueFd stop_;  // an eventfd
  SerialGreeting greeting_;
  std::string first_;  // what came behind the greeting
  std::function<void(UniqueFd)> sink_;
  std::thread thread_;
};

}  // namespace vibe::supervisor
