#include "cli/table.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

constexpr int kGap = 2;
constexpr int kNarrowest = 4;

std::vector<int> ColumnWidths(const std::vector<std::string>& header,
                              const std::vector<std::vector<Cell>>& rows, int width) {
  std::vector<int> widths;
  for (size_t column = 0; column < header.size(); ++column) {
    int widest = DisplayWidth(header[column]);
    for (const std::vector<Cell>& row : rows) {
      widest = std::max(widest, column < row.size() ? DisplayWidth(row[column].text) : 0);
    }
    widths.push_back(widest);
  }
  const int gaps = kGap * (static_cast<int>(header.size()) - 1);
  while (width > 0 && !widths.empty() &&
         std::accumulate(widths.begin(), widths.end(), gaps) > width) {
    const auto widest = std::max_element(widths.begin(), widths.end());
    if (*widest <= kNarrowest) {
      break;
    }
    --*widest;
  }
  return widths;
}

std::string RenderCell(const Cell& cell, int width, bool last) {
  const int missing = width - DisplayWidth(cell.text);
  if (missing < 0) {
    return Fit(cell.text, width);
  }
  const std::string& shown = cell.painted.empty() ? cell.text : cell.painted;
  return last ? shown : absl::StrCat(shown, std::string(missing, ' '));
}

std::string RenderRow(const std::vector<Cell>& row, const std::vector<int>& widths) {
  std::string line;
  for (size_t column = 0; column < widths.size(); ++column) {
    const bool last = column + 1 == widths.size();
    const Cell cell = column < row.size() ? row[column] : Cell{};
    absl::StrAppend(&line, RenderCell(cell, widths[column], last),
                    last ? "" : std::string(kGap, ' '));
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return absl::StrCat(line, "\n");
}

}  // namespace

std::string RenderTable(const std::vector<std::string>& header,
                        const std::vector<std::vector<Cell>>& rows, int width) {
  const std::vector<int> widths = ColumnWidths(header, rows, width);
  std::vector<Cell> titles;
  for (const std::string& title : header) {
    titles.push_back({title, ""});
  }
  std::string out = RenderRow(titles, widths);
  for (const std::vector<Cell>& row : rows) {
    absl::StrAppend(&out, RenderRow(row, widths));
  }
  return out;
}

}  // namespace vibe::cli
