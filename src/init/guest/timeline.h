// When each step of the boot was done, on the clock that started with the kernel. One thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace vibe::init::guest {

double SecondsSinceBoot();

class Timeline {
 public:
  void Mark(absl::string_view step) { Mark(step, SecondsSinceBoot()); }
  void Mark(absl::string_view step, double seconds) { steps_.emplace_back(step, seconds); }
  // "kernel 1.62 root 1.71 disk 2.95": each step and when it was done, in the order in which they
  // were.
  std::string Text() const;

 private:
  std::vector<std::pair<std::string, double>> steps_;
};

}  // namespace vibe::init::guest
