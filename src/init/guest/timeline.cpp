#include "init/guest/timeline.h"

#include <time.h>

#include <algorithm>

#include "absl/strings/str_format.h"

namespace vibe::init::guest {

double SecondsSinceBoot() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

std::string Timeline::Text() const {
  std::vector<std::pair<std::string, double>> sorted = steps_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second < b.second; });
  std::string text;
  for (const auto& [step, seconds] : sorted) {
    absl::StrAppendFormat(&text, "%s%s %.2f", text.empty() ? "" : " ", step, seconds);
  }
  return text;
}

}  // namespace vibe::init::guest
