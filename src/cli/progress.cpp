#include "cli/progress.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

constexpr int kBarWidth = 24;
constexpr int kMaxNameWidth = 24;
constexpr int kVerbWidth = 10;
constexpr absl::string_view kMachine = "machine";  // the item of events that are the machine's

absl::string_view Verb(const std::string& phase) {
  constexpr std::array<std::pair<absl::string_view, absl::string_view>, 15> kVerbs = {{
      {"boot", "booting"},
      {"resolve", "resolving"},
      {"fetch", "fetching"},
      {"unpack", "unpacking"},
      {"create", "creating"},
      {"start", "starting"},
      {"ready", "ready"},
      {"stop", "stopping"},
      {"upload", "copying"},
      {"erase", "erasing"},
      {"save", "saving"},
      {"restore", "restoring"},
      {"copy", "copying"},
      {"hook", "running"},
      {"wait", "waiting:"},
  }};
  for (const auto& [name, verb] : kVerbs) {
    if (name == phase) {
      return verb;
    }
  }
  return "working";
}

// Events of one service share a row; the files of the app, which belong to none, have their own.
std::string RowName(const ProgressEvent& event) {
  if (!event.service.empty()) {
    return event.service;
  }
  if (event.phase == "boot" || event.item == kMachine) {
    return "machine";
  }
  return event.phase == "upload" ? "app files" : "project";
}

bool IsDone(const ProgressEvent& event) {
  return event.phase == "ready" || (event.total > 0 && event.done >= event.total);
}

// Whether another item says something new of a phase: why a service is waited for.
bool ItemIsNews(const ProgressEvent& event) {
  return event.phase == "wait" || event.phase == "stop";
}

bool HasShare(const ProgressEvent& event) {
  return event.total > 0 && event.phase != "ready";
}

double Share(const ProgressEvent& event) {
  return std::min(1.0, static_cast<double>(event.done) / static_cast<double>(event.total));
}

std::string Amount(const ProgressEvent& event) {
  if (event.unit == "bytes") {
    return event.total > 0  ? absl::StrCat(FormatBytes(std::min(event.done, event.total)), " of ",
                                           FormatBytes(event.total))
           : event.done > 0 ? FormatBytes(event.done)
                            : "";
  }
  return event.total > 0 ? absl::StrCat(event.done, " of ", event.total, " ", Escape(event.unit))
                         : "";
}

std::string Bar(const ProgressEvent& event) {
  const int filled = static_cast<int>(Share(event) * kBarWidth);
  std::string bar(filled, '=');
  if (filled < kBarWidth) {
    bar += '>';
    bar.resize(kBarWidth, ' ');
  }
  return absl::StrCat("[", bar, "]");
}

std::string RenderRow(const ProgressEvent& row, int name_width, int width, bool color) {
  const std::string name = Pad(Fit(Escape(RowName(row)), name_width), name_width);
  const std::string verb = Pad(Verb(row.phase), kVerbWidth);
  std::string rest;
  if (HasShare(row)) {
    rest =
        absl::StrFormat("%s %3d%%  %s", Bar(row), static_cast<int>(Share(row) * 100), Amount(row));
  } else if (const std::string amount = Amount(row); !amount.empty()) {
    rest = amount;
  } else if (row.phase != "ready" && row.item != kMachine) {
    rest = Escape(row.item);
  }
  std::string plain = absl::StrCat("  ", name, "  ", verb, " ", rest);
  plain.erase(plain.find_last_not_of(' ') + 1);
  plain = Fit(plain, width - 1);
  // Colour only what was not cut: a code cut in half would colour the rest of the screen.
  const size_t head = 2 + name.size();
  if (!color || plain.size() <= head + 2 || plain.compare(2, name.size(), name) != 0) {
    return plain;
  }
  const Color shade = row.phase == "ready" ? Color::kGreen : Color::kCyan;
  return absl::StrCat(plain.substr(0, head), Paint(plain.substr(head), shade, true));
}

}  // namespace

ProgressEvent ParseProgress(const Json& json) {
  ProgressEvent event;
  event.phase = StringAt(json, "phase");
  event.service = StringAt(json, "service");
  event.item = StringAt(json, "item");
  event.done = UnsignedAt(json, "done");
  event.total = UnsignedAt(json, "total");
  event.unit = StringAt(json, "unit");
  return event;
}

void ProgressRows::Apply(const ProgressEvent& event) {
  const std::string name = RowName(event);
  const auto row = std::find_if(rows_.begin(), rows_.end(),
                                [&](const ProgressEvent& other) { return RowName(other) == name; });
  if (row != rows_.end()) {
    *row = event;
  } else if (rows_.size() < kMaxRows) {
    rows_.push_back(event);
  }
}

std::vector<std::string> RenderRows(const std::vector<ProgressEvent>& rows,
                                    const ScreenSize& screen, bool color) {
  // A line of the screen stays free: the cursor stands on it.
  const size_t room = static_cast<size_t>(std::max(1, screen.height - 2));
  std::vector<const ProgressEvent*> shown;
  size_t hidden = rows.size() > room ? rows.size() - room + 1 : 0;
  size_t to_hide = hidden;
  for (const ProgressEvent& row : rows) {
    if (to_hide > 0 && IsDone(row)) {
      --to_hide;
    } else {
      shown.push_back(&row);
    }
  }
  shown.resize(shown.size() - std::min(to_hide, shown.size()));
  int name_width = 0;
  for (const ProgressEvent* row : shown) {
    name_width = std::max(name_width, std::min(kMaxNameWidth, DisplayWidth(Escape(RowName(*row)))));
  }
  std::vector<std::string> lines;
  for (const ProgressEvent* row : shown) {
    lines.push_back(RenderRow(*row, name_width, screen.width, color));
  }
  if (hidden > 0) {
    lines.push_back(Fit(absl::StrCat("  and ", hidden, " more"), screen.width - 1));
  }
  return lines;
}

std::optional<std::string> PlainProgress::Apply(const ProgressEvent& event) {
  const std::string name = RowName(event);
  const uint64_t quarter = HasShare(event) ? static_cast<uint64_t>(Share(event) * 4) : 0;
  auto seen = std::find_if(seen_.begin(), seen_.end(), [&](const Seen& other) {
    return RowName(other.event) == name && other.event.phase == event.phase &&
           (!ItemIsNews(event) || other.event.item == event.item);
  });
  const std::string line = absl::StrCat(Escape(name), ": ", Verb(event.phase));
  if (seen == seen_.end()) {
    if (seen_.size() >= kMaxRows * 8) {
      return std::nullopt;
    }
    seen_.push_back({event, quarter});
    const bool plain = event.item.empty() || event.item == kMachine || event.phase == "ready";
    return plain ? line : absl::StrCat(line, " ", Escape(event.item));
  }
  if (quarter <= seen->quarter) {
    return std::nullopt;
  }
  seen->quarter = quarter;
  return absl::StrFormat("%s %d%% (%s)", line, static_cast<int>(Share(event) * 100), Amount(event));
}

std::string RenderSpinner(absl::string_view label, uint64_t tick, int width) {
  constexpr absl::string_view kWheel = "|/-\\";
  return Fit(absl::StrCat("  ", kWheel.substr(tick % kWheel.size(), 1), " ", Escape(label)),
             width - 1);
}

}  // namespace vibe::cli
