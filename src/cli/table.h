// Columns of text under headings. Pure.
#pragma once

#include <string>
#include <vector>

namespace vibe::cli {

struct Cell {
  std::string text;     // escaped
  std::string painted;  // `text` with colour codes; empty: `text`
};

// One line per row, ending in a line feed; columns are two spaces apart. A row shorter than the
// header has empty cells. With `width` > 0 no line is wider: the widest columns give way.
std::string RenderTable(const std::vector<std::string>& header,
                        const std::vector<std::vector<Cell>>& rows, int width);

}  // namespace vibe::cli
