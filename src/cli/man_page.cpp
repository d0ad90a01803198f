#include "cli/man_page.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "cli/completion.h"
#include "cli/help_text.h"

namespace vibe::cli {
namespace {

constexpr int kWidth = 72;

// Text inside a line. A hyphen would be printed as another character, which cannot be pasted into a
// shell.
std::string Quote(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}, {"…", "..."}, {"`", "\\(ga"}});
}

// Lines of text; none may look like a request.
std::string Text(absl::string_view text) {
  std::string out;
  const std::string wrapped = Wrap(text, 0, kWidth);
  for (const absl::string_view line : absl::StrSplit(absl::StripSuffix(wrapped, "\n"), '\n')) {
    if (line.empty()) {
      absl::StrAppend(&out, ".PP\n");
      continue;
    }
    absl::StrAppend(&out, line[0] == '.' || line[0] == '\'' ? "\\&" : "", Quote(line), "\n");
  }
  return out;
}

std::string Option(const OptionText& option) {
  const std::string names = absl::StrJoin(
      option.names, "\\fR, \\fB",
      [](std::string* out, const std::string& name) { absl::StrAppend(out, Quote(name)); });
  const std::string value =
      option.value.empty() ? "" : absl::StrCat(" \\fI", Quote(option.value), "\\fR");
  const std::string tag = option.positional ? absl::StrCat("\\fI", names, "\\fR")
                                            : absl::StrCat("\\fB", names, "\\fR", value);
  return absl::StrCat(".TP\n", tag, "\n", Text(option.description));
}

std::string Options(const std::vector<OptionText>& options) {
  std::string out;
  for (const OptionText& option : options) {
    absl::StrAppend(&out, Option(option));
  }
  return out;
}

std::string Examples(const CommandText& command) {
  std::string out;
  for (const CommandText::Example& example : command.examples) {
    absl::StrAppend(&out, ".TP\n\\fB", Quote(example.command), "\\fR\n", Text(example.effect));
  }
  return out;
}

std::string Command(const FlatCommand& entry) {
  std::string out = absl::StrCat(".SS ", Quote(UsageOf(entry.command, entry.path)), "\n",
                                 Text(entry.command.description), Options(entry.command.options));
  if (!entry.command.examples.empty()) {
    absl::StrAppend(&out, ".PP\nExamples:\n", Examples(entry.command));
  }
  return out;
}

std::string Term(absl::string_view term, absl::string_view text) {
  return absl::StrCat(".TP\n\\fB", Quote(term), "\\fR\n", Text(text));
}

}  // namespace

std::string RenderManPage(const CommandText& root) {
  std::string out = absl::StrCat(
      ".\\\" Made by `vibe man`; change the table of commands instead.\n",
      ".TH VIBE 1 \"\" \"Vibe\" \"Vibe Manual\"\n.SH NAME\nvibe \\- ", Quote(root.summary),
      "\n.SH SYNOPSIS\n\\fBvibe\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR\n.SH DESCRIPTION\n",
      Text(root.description), ".SH OPTIONS\nEvery command takes these:\n", Options(root.options),
      ".SH COMMANDS\n");
  for (const FlatCommand& entry : Flatten(root)) {
    absl::StrAppend(&out, Command(entry));
  }
  absl::StrAppend(&out, ".SH EXIT STATUS\n", Term("0", "it is done"),
                  Term("1", "it failed; what, why and what to do stand on standard error"),
                  Term("2", "the command line was not understood; nothing was done"),
                  Term("130", "it was interrupted with Ctrl-C"),
                  ".PP\n\\fBvibe exec\\fR ends with the exit code of the command that it ran.\n",
                  ".SH ENVIRONMENT\n",
                  Term("VIBE_HOME", "where Vibe keeps its files, when --home is not given"),
                  Term("NO_COLOR", "when it is not empty, nothing is printed in colour"),
                  ".SH FILES\n", Term("~/.vibe", "Vibe's home: projects, the machine and its data"),
                  Term("~/.vibe/logs/vibed.log", "what the background process did"),
                  ".SH EXAMPLES\n", Examples(root));
  return out;
}

}  // namespace vibe::cli
