// Shows the progress of one call on stderr: lines redrawn in place on a terminal, at most ten times
// a second; plain lines otherwise. While nothing is reported for a second, a spinner turns.
//
// Thread-safe. A thread of its own draws; the destructor joins it and leaves the last state on the
// screen (without the spinner).
#pragma once

#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "cli/progress.h"

namespace vibe::cli {

enum class ProgressStyle { kSilent, kPlain, kTerminal };

class ProgressDisplay {
 public:
  // `label` says what is waited for, as in "starting notes".
  ProgressDisplay(ProgressStyle style, bool color, std::string label);
  ~ProgressDisplay();
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  void Update(const ProgressEvent& event);
  void SetLabel(std::string label);

 private:
  void DrawUntilClosed();
  void Draw(bool with_spinner) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ProgressStyle style_;
  const bool color_;
  absl::Mutex mutex_;
  std::string label_ ABSL_GUARDED_BY(mutex_);
  ProgressRows rows_ ABSL_GUARDED_BY(mutex_);
  PlainProgress plain_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_event_ ABSL_GUARDED_BY(mutex_);
  uint64_t tick_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> drawn_ ABSL_GUARDED_BY(mutex_);  // the lines on the screen
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // only for a terminal
};

}  // namespace vibe::cli
