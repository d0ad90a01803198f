#include "state/fault.h"

#ifdef VIBE_STATE_FAULTS

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"

namespace vibe::state {
namespace {

constexpr char kFile[] = "/run/vibe/fault";

struct Fault {
  std::string text;  // as it was given
  std::string name;
  bool stops = false;
  int left = 0;  // points to pass, the deadly one counted; 0: none is armed
};

Fault ParseFault(const std::string& text) {
  absl::string_view name = absl::string_view(text).substr(0, text.find('\n'));
  const bool stops = absl::ConsumePrefix(&name, "stop ");
  int count = 1;
  const size_t colon = name.rfind(':');
  if (colon != name.npos && absl::SimpleAtoi(name.substr(colon + 1), &count)) {
    name = name.substr(0, colon);
  }
  return {text, std::string(name), stops, name.empty() ? 0 : count};
}

std::string ReadFile() {
  std::ifstream file(kFile);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

void FaultPoint(const char* name) {
  static absl::Mutex mutex;
  static const char* const variable = std::getenv("VIBE_FAULT");  // NOLINT(concurrency-mt-unsafe)
  static Fault fault;
  absl::MutexLock lock(&mutex);
  const std::string text = variable != nullptr ? variable : ReadFile();
  if (text != fault.text) {
    fault = ParseFault(text);
  }
  if (fault.left > 0 && (fault.name == "*" || fault.name == name) && --fault.left == 0) {
    if (variable == nullptr) {
      std::ofstream(kFile) << text.substr(std::min(text.find('\n'), text.size() - 1) + 1);
    }
    if (fault.stops) {
      std::ofstream("/dev/console") << "stopped at the fault point " << name << "\n";
    }
    std::raise(fault.stops ? SIGSTOP : SIGKILL);
  }
}

}  // namespace vibe::state

#endif
