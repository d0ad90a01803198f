#include "cli/progress_display.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/screen.h"

namespace vibe::cli {
namespace {

constexpr absl::Duration kFrame = absl::Milliseconds(100);
constexpr absl::Duration kSilence = absl::Seconds(1);

// stderr is not buffered: one call per picture keeps it from flickering.
void Write(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

ProgressDisplay::ProgressDisplay(ProgressStyle style, bool color, std::string label)
    : style_(style), color_(color), label_(std::move(label)), last_event_(absl::Now()) {
  if (style_ == ProgressStyle::kTerminal) {
    thread_ = std::thread([this] { DrawUntilClosed(); });
  }
}

ProgressDisplay::~ProgressDisplay() {
  {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

void ProgressDisplay::Update(const ProgressEvent& event) {
  absl::MutexLock lock(&mutex_);
  last_event_ = absl::Now();
  rows_.Apply(event);
  if (style_ == ProgressStyle::kPlain) {
    if (const std::optional<std::string> line = plain_.Apply(event)) {
      Write(absl::StrCat(*line, "\n"));
    }
  }
}

void ProgressDisplay::SetLabel(std::string label) {
  absl::MutexLock lock(&mutex_);
  label_ = std::move(label);
}

void ProgressDisplay::DrawUntilClosed() {
  absl::MutexLock lock(&mutex_);
  while (!mutex_.AwaitWithTimeout(absl::Condition(&closed_), kFrame)) {
    ++tick_;
    Draw(absl::Now() - last_event_ >= kSilence);
  }
  Draw(false);
}

void ProgressDisplay::Draw(bool with_spinner) {
  const ScreenSize screen = MeasureScreen(STDERR_FILENO);
  std::vector<std::string> lines = RenderRows(rows_.rows(), screen, color_);
  if (with_spinner) {
    lines.push_back(RenderSpinner(label_, tick_, screen.width));
  }
  if (lines == drawn_) {
    return;
  }
  std::string picture;
  if (!drawn_.empty()) {
    absl::StrAppend(&picture, "\x1b[", drawn_.size(), "A");  // to the first line drawn
  }
  absl::StrAppend(&picture, "\r");
  for (const std::string& line : lines) {
    absl::StrAppend(&picture, line, "\x1b[K\n");
  }
  absl::StrAppend(&picture, "\x1b[J");  // what was longer before
  Write(picture);
  drawn_ = std::move(lines);
}

}  // namespace vibe::cli
