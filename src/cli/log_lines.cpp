#include "cli/log_lines.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"

namespace vibe::cli {
namespace {

constexpr size_t kMaxColored = 1000;
constexpr int kMaxPrefix = 24;
constexpr std::array<Color, 5> kPalette = {Color::kCyan, Color::kYellow, Color::kGreen,
                                           Color::kMagenta, Color::kBlue};

}  // namespace

LogLine ParseLogLine(const Json& json) {
  return {StringAt(json, "time"), StringAt(json, "service"), StringAt(json, "stream"),
          StringAt(json, "text")};
}

LogRenderer::LogRenderer(const std::vector<std::string>& services, const LogStyle& style)
    : style_(style) {
  for (const std::string& service : services) {
    ColorOf(service);
    width_ = std::max(width_, std::min(kMaxPrefix, DisplayWidth(Escape(service))));
  }
}

std::string LogRenderer::Render(const LogLine& line) {
  const std::string text = style_.escape ? Escape(line.text) : line.text;
  if (!style_.prefix) {
    return absl::StrCat(text, "\n");
  }
  const std::string name = absl::StrCat(Pad(Escape(line.service), width_), " |");
  return absl::StrCat(Paint(name, ColorOf(line.service), style_.color), " ", text, "\n");
}

Color LogRenderer::ColorOf(const std::string& service) {
  const auto found = colors_.find(service);
  if (found != colors_.end()) {
    return found->second;
  }
  const Color color = kPalette[colors_.size() % kPalette.size()];
  if (colors_.size() < kMaxColored) {
    colors_.emplace(service, color);
  }
  return color;
}

}  // namespace vibe::cli
