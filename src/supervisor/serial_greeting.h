// Finds a host's greeting in what comes from a serial port: "\nVIBE <secret> <nonce>\n", the secret
// being the machine's and the nonce 32 hex digits. Nothing else that goes through the port has the
// secret in it, so a greeting is one wherever it comes, also in the middle of what another host
// began. One thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace vibe::supervisor {

class SerialGreeting {
 public:
  explicit SerialGreeting(const std::string& secret);

  // The number of these bytes up to the end of a greeting, which may have begun in earlier bytes.
  // Of several greetings the last one counts.
  std::optional<size_t> Find(absl::string_view bytes);
  const std::string& nonce() const { return nonce_; }  // of the greeting that was found

 private:
  const std::string beginning_;
  std::string tail_;  // of the earlier bytes
  std::string nonce_;
};

}  // namespace vibe::supervisor
