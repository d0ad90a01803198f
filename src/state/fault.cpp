#include "state/fault.h"

#ifdef VIBE_STATE_FAULTS

#include <csignal>
#include <cstdlib>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace vibe::state {
namespace {

struct Fault {
  std::string name;
  int left = 0;  // points to pass, the deadly one counted; 0: none is armed
};

Fault FaultOfEnvironment() {
  const char* text = std::getenv("VIBE_FAULT");  // NOLINT(concurrency-mt-unsafe): only read
  if (text == nullptr) {
    return {};
  }
  absl::string_view name = text;
  int count = 1;
  const size_t colon = name.rfind(':');
  if (colon != name.npos && absl::SimpleAtoi(name.substr(colon + 1), &count)) {
    name = name.substr(0, colon);
  }
  return {std::string(name), count};
}

}  // namespace

void FaultPoint(const char* name) {
  static absl::Mutex mutex;
  static Fault fault = FaultOfEnvironment();
  absl::MutexLock lock(&mutex);
  if (fault.left > 0 && (fault.name == "*" || fault.name == name) && --fault.left == 0) {
    std::raise(SIGKILL);
  }
}

}  // namespace vibe::state

#endif
