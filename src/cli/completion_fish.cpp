#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "cli/completion.h"

namespace vibe::cli {
namespace {

std::string Quote(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

// The argument of -a.
std::string Candidates(Words words) {
  switch (words) {
    case Words::kProjects:
      return "'(vibe __complete projects 2>/dev/null)'";
    case Words::kServices:
      return "'(vibe __complete services (__vibe_project) 2>/dev/null)'";
    case Words::kSnapshots:
      return "'(vibe __complete snapshots (__vibe_project) 2>/dev/null)'";
    case Words::kFolders:
      return "'(__fish_complete_directories)'";
    case Words::kShells:
      return "'bash zsh fish'";
    case Words::kCapabilities:
      return "'network exposePorts hostFileImport'";
    case Words::kFiles:
    case Words::kCommands:
    case Words::kNone:
      break;
  }
  return "";
}

std::string OptionLine(const std::string& condition, const OptionText& option) {
  std::string out = absl::StrCat("complete -c vibe", condition);
  for (const std::string& name : option.names) {
    absl::StrAppend(&out, name.substr(0, 2) == "--" ? absl::StrCat(" -l ", name.substr(2))
                                                    : absl::StrCat(" -s ", name.substr(1)));
  }
  if (!option.value.empty()) {
    const std::string candidates = Candidates(WordsOf(option));
    absl::StrAppend(&out, " -x", candidates.empty() ? "" : absl::StrCat(" -a ", candidates));
  }
  return absl::StrCat(out, " -d ", Quote(option.description), "\n");
}

std::string CommandLines(const std::string& path, const CommandText& command) {
  std::string out;
  for (const CommandText& subcommand : command.subcommands) {
    absl::StrAppend(&out, "complete -c vibe -n ", Quote(absl::StrCat("__vibe_at 0 ", path)), " -a ",
                    subcommand.name, " -d ", Quote(subcommand.summary), "\n");
  }
  return out;
}

std::string ArgumentLine(const CommandText& root, const std::string& path, int position,
                         const OptionText& option) {
  const std::string head =
      absl::StrCat("complete -c vibe -n ", Quote(absl::StrCat("__vibe_at ", position, " ", path)));
  const Words words = WordsOf(option);
  if (words == Words::kFiles) {
    return absl::StrCat(head, " -F\n");
  }
  if (words == Words::kCommands) {
    const std::string names = absl::StrJoin(
        root.subcommands, " ",
        [](std::string* out, const CommandText& command) { absl::StrAppend(out, command.name); });
    return absl::StrCat(head, " -a ", Quote(names), "\n");
  }
  const std::string candidates = Candidates(words);
  return candidates.empty() ? "" : absl::StrCat(head, " -a ", candidates, "\n");
}

// Patterns "COMMAND OPTION" of the options whose next word is their value.
std::string ValuePatterns(const CommandText& root) {
  std::string out;
  const auto add = [&](const std::string& path, const std::vector<OptionText>& options) {
    for (const OptionText& option : options) {
      if (!option.positional && !option.value.empty()) {
        for (const std::string& name : option.names) {
          absl::StrAppend(&out, " ", Quote(absl::StrCat(path, " ", name)));
        }
      }
    }
  };
  add("*", root.options);
  for (const FlatCommand& entry : Flatten(root)) {
    add(entry.path, entry.command.options);
  }
  return out;
}

}  // namespace

std::string RenderFishCompletion(const CommandText& root) {
  std::string with_subcommands;
  std::string lines;
  for (const FlatCommand& entry : Flatten(root)) {
    if (!entry.command.subcommands.empty()) {
      absl::StrAppend(&with_subcommands, " ", Quote(entry.path));
    }
    absl::StrAppend(&lines, CommandLines(entry.path, entry.command));
    int position = 0;
    for (const OptionText& option : entry.command.options) {
      absl::StrAppend(
          &lines,
          option.positional
              ? ArgumentLine(root, entry.path, position++, option)
              : OptionLine(absl::StrCat(" -n ", Quote(absl::StrCat("__vibe_in ", entry.path))),
                           option));
    }
  }
  std::string globals;
  for (const OptionText& option : root.options) {
    absl::StrAppend(&globals, OptionLine("", option));
  }
  return absl::StrCat(R"(# Completion of vibe for fish, made by `vibe completion fish`.

# Prints the command's words on the first line, and then each of its arguments.
function __vibe_line
    set -l command
    set -l arguments
    set -l skip 0
    set -l words (commandline -opc)
    for word in $words[2..-1]
        if test $skip -eq 1
            set skip 0
        else if string match -q -- '-*' $word
            switch "$command $word"
                case)",
                      ValuePatterns(root), R"(
                    set skip 1
            end
        else if test -z "$command"
            set command $word
        else if contains -- "$command")",
                      with_subcommands, R"(
            set command "$command $word"
        else
            set -a arguments $word
        end
    end
    echo $command
    printf '%s\n' $arguments
end

# Whether the command's words are those after the number, and it has that many arguments.
function __vibe_at
    set -l line (__vibe_line)
    test "$line[1]" = "$argv[2..-1]"
    and test (count (string match -v '' -- $line[2..-1])) -eq $argv[1]
end

function __vibe_in
    set -l line (__vibe_line)
    test "$line[1]" = "$argv"
end

function __vibe_project
    set -l line (__vibe_line)
    echo $line[2]
end

complete -c vibe -f
)",
                      globals, CommandLines("", root), lines);
}

}  // namespace vibe::cli
