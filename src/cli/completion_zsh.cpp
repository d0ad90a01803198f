#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "cli/completion.h"

namespace vibe::cli {
namespace {

// Inside '…[HERE]…' of _arguments.
std::string Quote(absl::string_view text) {
  return absl::StrReplaceAll(
      text, {{"'", "'\\''"}, {"[", "\\["}, {"]", "\\]"}, {":", "\\:"}, {"\n", " "}});
}

std::string Action(Words words) {
  switch (words) {
    case Words::kProjects:
      return "_vibe_projects";
    case Words::kServices:
      return "_vibe_services";
    case Words::kSnapshots:
      return "_vibe_snapshots";
    case Words::kFiles:
      return "_files";
    case Words::kFolders:
      return "_files -/";
    case Words::kShells:
      return "(bash zsh fish)";
    case Words::kCapabilities:
      return "(network exposePorts hostFileImport)";
    case Words::kCommands:
      return "_vibe_commands";
    case Words::kNone:
      break;
  }
  return " ";
}

std::string Spec(const OptionText& option) {
  const std::string value =
      absl::StrCat(":", Quote(option.positional ? option.names.front() : option.value), ":",
                   Action(WordsOf(option)));
  if (option.positional) {
    return absl::StrCat("'", option.repeated ? "*" : option.required ? "" : ":", value, "'");
  }
  const std::string text =
      absl::StrCat("[", Quote(option.description), "]", option.value.empty() ? "" : value, "'");
  if (option.names.size() == 1) {
    return absl::StrCat("'", option.names.front(), text);
  }
  return absl::StrCat("'(", absl::StrJoin(option.names, " "), ")'{",
                      absl::StrJoin(option.names, ","), "}'", text);
}

std::string Specs(const std::vector<OptionText>& options, absl::string_view indent) {
  std::string out;
  for (const OptionText& option : options) {
    absl::StrAppend(&out, " \\\n", indent, Spec(option));
  }
  return out;
}

std::string List(const CommandText& command) {
  std::string out;
  for (const CommandText& subcommand : command.subcommands) {
    absl::StrAppend(&out, "    '", subcommand.name, ":", Quote(subcommand.summary), "'\n");
  }
  return out;
}

std::string FunctionName(const std::string& path) {
  return absl::StrCat("_vibe_command_", absl::StrReplaceAll(path, {{" ", "_"}}));
}

// A function that completes what comes after the words of a command.
std::string Function(const CommandText& root, const std::string& path, const CommandText& command) {
  const std::string name = path.empty() ? "_vibe" : FunctionName(path);
  if (command.subcommands.empty()) {
    return absl::StrCat(name, "() {\n  _arguments -s", Specs(root.options, "    "),
                        Specs(command.options, "    "), "\n}\n\n");
  }
  std::string cases;
  for (const CommandText& subcommand : command.subcommands) {
    absl::StrAppend(
        &cases, "        ", subcommand.name, ") ",
        FunctionName(path.empty() ? subcommand.name : absl::StrCat(path, " ", subcommand.name)),
        " ;;\n");
  }
  return absl::StrCat(name, R"(() {
  local curcontext="$curcontext" state line
  local -a commands
  commands=(
)",
                      List(command), "  )\n  _arguments -C -s", Specs(root.options, "    "),
                      R"( \
    '1:command:->command' \
    '*::argument:->argument'
  case $state in
    command) _describe -t commands command commands ;;
    argument)
      case $words[1] in
)",
                      cases, "      esac\n      ;;\n  esac\n}\n\n");
}

}  // namespace

std::string RenderZshCompletion(const CommandText& root) {
  std::string out =
      absl::StrCat(R"zsh(#compdef vibe
# Completion of vibe for zsh, made by `vibe completion zsh`.

_vibe_projects() {
  local -a names
  names=(${(f)"$(vibe __complete projects 2>/dev/null)"})
  compadd -a names
}

# Those of the project that stands on the line already.
_vibe_services() {
  local -a names
  local word
  for word in $words[2,-1]; do
    [[ $word == -* ]] || names+=(${(f)"$(vibe __complete services $word 2>/dev/null)"})
  done
  compadd -a names
}

_vibe_snapshots() {
  local -a names
  local word
  for word in $words[2,-1]; do
    [[ $word == -* ]] || names+=(${(f)"$(vibe __complete snapshots $word 2>/dev/null)"})
  done
  compadd -a names
}

_vibe_commands() {
  local -a commands
  commands=(
)zsh",
                   List(root), "  )\n  _describe -t commands command commands\n}\n\n");
  for (const FlatCommand& entry : Flatten(root)) {
    absl::StrAppend(&out, Function(root, entry.path, entry.command));
  }
  absl::StrAppend(&out, Function(root, "", root));
  // Run by zsh's own loader, or read with `source`.
  return absl::StrCat(out, R"(if [[ $funcstack[1] == _vibe ]]; then
  _vibe "$@"
else
  compdef _vibe vibe
fi
)");
}

}  // namespace vibe::cli
