// What a long call of vibed reports, as lines of text. Pure; no class here knows of a terminal or a
// clock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "cli/json_fields.h"

namespace vibe::cli {

struct ProgressEvent {
  std::string phase;  // boot resolve fetch unpack create start ready stop upload save restore copy
  std::string service;  // empty: the whole project
  std::string item;     // an image or a file; may be empty
  uint64_t done = 0;
  uint64_t total = 0;  // 0: not known
  std::string unit;    // "bytes", "layers", "services"
};

ProgressEvent ParseProgress(const Json& json);

// The last event of each service, in the order in which the services appeared.
class ProgressRows {
 public:
  void Apply(const ProgressEvent& event);

  const std::vector<ProgressEvent>& rows() const { return rows_; }

 private:
  std::vector<ProgressEvent> rows_;  // at most kMaxRows
};

inline constexpr size_t kMaxRows = 100;

struct ScreenSize {
  int width = 80;
  int height = 24;
};

// One line per row, none wider than width - 1 and no more of them than fit on the screen: those
// that are done give way first. Without line feeds.
std::vector<std::string> RenderRows(const std::vector<ProgressEvent>& rows,
                                    const ScreenSize& screen, bool color);

// The same for a file or a pipe: a line at each change of a service's phase, at each quarter of a
// transfer and for each reason to wait; nothing for the events between.
class PlainProgress {
 public:
  std::optional<std::string> Apply(const ProgressEvent& event);

 private:
  struct Seen {
    ProgressEvent event;
    uint64_t quarter = 0;
  };
  std::vector<Seen> seen_;
};

// "| starting vibed"; `tick` turns the wheel.
std::string RenderSpinner(absl::string_view label, uint64_t tick, int width);

}  // namespace vibe::cli
