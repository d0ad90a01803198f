#include "cli/help_text.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

constexpr int kWidth = 80;
constexpr int kMaxLeft = 28;  // a longer left side gets a line of its own

using Row = std::pair<std::string, std::string>;

std::string LeftOf(const OptionText& option) {
  std::string left = absl::StrJoin(option.names, ", ");
  // Long names stand under each other, with or without a short one.
  if (!option.positional && option.names.front().substr(0, 2) == "--") {
    left = absl::StrCat("    ", left);
  }
  return option.value.empty() ? left : absl::StrCat(left, " ", option.value);
}

std::string RenderList(absl::string_view title, const std::vector<Row>& rows) {
  if (rows.empty()) {
    return "";
  }
  int left_width = 0;
  for (const Row& row : rows) {
    left_width = std::max(left_width, std::min(kMaxLeft, DisplayWidth(row.first)));
  }
  const int column = 2 + left_width + 2;
  std::string out = absl::StrCat("\n", title, ":\n");
  for (const auto& [left, right] : rows) {
    const std::string wrapped = Wrap(right, column, kWidth);
    const std::string head = absl::StrCat("  ", left);
    if (DisplayWidth(left) > left_width) {
      absl::StrAppend(&out, head, "\n", wrapped);
    } else {
      absl::StrAppend(&out, Pad(head, column),
                      wrapped.substr(std::min<size_t>(column, wrapped.size())));
    }
  }
  return out;
}

std::vector<Row> RowsOf(const std::vector<OptionText>& options, bool positional) {
  std::vector<Row> rows;
  for (const OptionText& option : options) {
    if (option.positional == positional) {
      rows.emplace_back(LeftOf(option), option.description);
    }
  }
  return rows;
}

std::vector<Row> CommandRows(const CommandText& command) {
  std::vector<Row> rows;
  for (const CommandText& subcommand : command.subcommands) {
    rows.emplace_back(subcommand.name, subcommand.summary);
  }
  return rows;
}

}  // namespace

std::string Wrap(absl::string_view text, int indent, int width) {
  std::string out;
  for (const absl::string_view paragraph : absl::StrSplit(text, "\n\n")) {
    absl::StrAppend(&out, out.empty() ? "" : "\n");
    std::string line(indent, ' ');
    bool empty = true;
    for (const absl::string_view word : absl::StrSplit(paragraph, ' ', absl::SkipEmpty())) {
      if (!empty && DisplayWidth(line) + 1 + DisplayWidth(word) > width) {
        absl::StrAppend(&out, line, "\n");
        line = std::string(indent, ' ');
        empty = true;
      }
      absl::StrAppend(&line, empty ? "" : " ", word);
      empty = false;
    }
    absl::StrAppend(&out, line, "\n");
  }
  return out;
}

std::string UsageOf(const CommandText& command, const std::string& path) {
  std::string usage = path.empty() ? "vibe" : absl::StrCat("vibe ", path);
  if (!command.subcommands.empty()) {
    return absl::StrCat(usage, " [OPTIONS] COMMAND");
  }
  absl::StrAppend(&usage, " [OPTIONS]");
  for (const OptionText& option : command.options) {
    if (option.positional) {
      const std::string word = absl::StrCat(option.names.front(), option.repeated ? "..." : "");
      // Options of the command that is run must not be taken for vibe's.
      const bool dashes = option.repeated && option.required && command.name == "exec";
      absl::StrAppend(&usage, dashes ? " --" : "", " ",
                      option.required ? word : absl::StrCat("[", word, "]"));
    }
  }
  return usage;
}

std::string RenderHelp(const CommandText& root, const CommandText& command,
                       const std::string& path) {
  std::string out = absl::StrCat("Usage: ", UsageOf(command, path), "\n\n");
  absl::StrAppend(&out, Wrap(command.description, 0, kWidth));
  absl::StrAppend(&out, RenderList("Commands", CommandRows(command)),
                  RenderList("Arguments", RowsOf(command.options, true)));
  if (&command == &root) {
    absl::StrAppend(&out, RenderList("Options of every command", RowsOf(root.options, false)));
  } else {
    absl::StrAppend(&out, RenderList("Options", RowsOf(command.options, false)),
                    RenderList("Options of every command", RowsOf(root.options, false)));
  }
  std::vector<Row> examples;
  for (const CommandText::Example& example : command.examples) {
    examples.emplace_back(example.command, example.effect);
  }
  absl::StrAppend(&out, RenderList("Examples", examples));
  if (!command.subcommands.empty()) {
    absl::StrAppend(&out, "\n`vibe help ", path.empty() ? "" : absl::StrCat(path, " "),
                    "COMMAND` explains a command.\n");
  }
  return out;
}

}  // namespace vibe::cli
