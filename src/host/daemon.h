// vibed as one object: everything that it is made of, in the order in which it starts and ends.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "vm/backends.h"
#include "vm/machine.h"

namespace vibe::host {

class Daemon {
 public:
  struct Options {
    std::filesystem::path home;  // prepared and locked by the caller
    std::string version;
    vm::Backend backend;
    vm::Machine::Options machine = {};
  };

  // Loads the library, finds a machine that runs, and serves the API. Returns at once; the
  // restoring of ports and what was left undone go on in the background.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(Options options);
  // Ends requests and listeners. The machine and its projects go on.
  ~Daemon();

 private:
  struct Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace vibe::host
