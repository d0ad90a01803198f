#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/completion.h"

namespace vibe::cli {
namespace {

std::string NamesOf(const CommandText& command) {
  return absl::StrJoin(command.subcommands, " ", [](std::string* out, const CommandText& sub) {
    absl::StrAppend(out, sub.name);
  });
}

// What _vibe_offer of the script knows.
absl::string_view Kind(Words words) {
  switch (words) {
    case Words::kProjects:
      return "projects";
    case Words::kServices:
      return "services";
    case Words::kSnapshots:
      return "snapshots";
    case Words::kFiles:
      return "files";
    case Words::kFolders:
      return "folders";
    case Words::kShells:
      return "shells";
    case Words::kCommands:
      return "commands";
    case Words::kCapabilities:
      return "capabilities";
    case Words::kNone:
      break;
  }
  return "nothing";
}

// Patterns "COMMAND OPTION" of the options that take a value, with what completes it.
std::string ValueCases(const CommandText& root, const std::vector<FlatCommand>& commands) {
  std::string out;
  const auto add = [&](const std::string& path, const OptionText& option) {
    if (option.positional || option.value.empty()) {
      return;
    }
    const std::string pattern =
        absl::StrJoin(option.names, "|", [&](std::string* text, const std::string& name) {
          absl::StrAppend(text, path == "*" ? "*' " : absl::StrCat("'", path, " "), name, "'");
        });
    absl::StrAppend(&out, "    ", pattern, ") kind=", Kind(WordsOf(option)), " ;;\n");
  };
  for (const OptionText& option : root.options) {
    add("*", option);
  }
  for (const FlatCommand& entry : commands) {
    for (const OptionText& option : entry.command.options) {
      add(entry.path, option);
    }
  }
  return out;
}

std::string OptionCases(const CommandText& root, const std::vector<FlatCommand>& commands) {
  const auto names = [](const std::vector<OptionText>& options) {
    std::vector<std::string> all;
    for (const OptionText& option : options) {
      if (!option.positional) {
        all.insert(all.end(), option.names.begin(), option.names.end());
      }
    }
    return absl::StrJoin(all, " ");
  };
  std::string out;
  for (const FlatCommand& entry : commands) {
    if (const std::string own = names(entry.command.options); !own.empty()) {
      absl::StrAppend(&out, "      '", entry.path, "') options+=' ", own, "' ;;\n");
    }
  }
  return absl::StrCat("    local options='", names(root.options), "'\n    case $command in\n", out,
                      "    esac\n");
}

// Patterns "COMMAND:COUNT of words so far".
std::string ArgumentCases(const std::vector<FlatCommand>& commands) {
  std::string out = "    ':0') _vibe_offer commands ;;\n";
  for (const FlatCommand& entry : commands) {
    if (!entry.command.subcommands.empty()) {
      absl::StrAppend(&out, "    '", entry.path, ":0') _vibe_words '", NamesOf(entry.command),
                      "' ;;\n");
    }
    int position = 0;
    for (const OptionText& option : entry.command.options) {
      if (option.positional) {
        if (WordsOf(option) != Words::kNone) {
          absl::StrAppend(&out, "    '", entry.path, ":", position, "') _vibe_offer ",
                          Kind(WordsOf(option)), " ;;\n");
        }
        ++position;
      }
    }
  }
  return out;
}

}  // namespace

std::string RenderBashCompletion(const CommandText& root) {
  const std::vector<FlatCommand> commands = Flatten(root);
  std::string with_subcommands;
  for (const FlatCommand& entry : commands) {
    if (!entry.command.subcommands.empty()) {
      absl::StrAppend(&with_subcommands, with_subcommands.empty() ? "" : "|", "'", entry.path, "'");
    }
  }
  return absl::StrCat(R"bash(# Completion of vibe for bash, made by `vibe completion bash`.

_vibe_words() {
  local IFS=$' \t\n'
  COMPREPLY=($(compgen -W "$1" -- "$cur"))
}

_vibe_files() {
  local IFS=$'\n'
  compopt -o filenames 2>/dev/null
  COMPREPLY=($(compgen "$1" -- "$cur"))
}

# Offers words of the kind $1.
_vibe_offer() {
  case $1 in
    projects) _vibe_words "$("${COMP_WORDS[0]}" __complete projects 2>/dev/null)" ;;
    services) _vibe_words "$("${COMP_WORDS[0]}" __complete services "$project" 2>/dev/null)" ;;
    snapshots) _vibe_words "$("${COMP_WORDS[0]}" __complete snapshots "$project" 2>/dev/null)" ;;
    files) _vibe_files -f ;;
    folders) _vibe_files -d ;;
    shells) _vibe_words 'bash zsh fish' ;;
    capabilities) _vibe_words 'network exposePorts hostFileImport' ;;
    commands) _vibe_words "$commands" ;;
  esac
}

# Sets kind to what the value of the option $1 of $command is; fails when it takes none.
_vibe_value() {
  case "$command $1" in
)bash",
                      ValueCases(root, commands), R"(    *) return 1 ;;
  esac
}

_vibe() {
  local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local command= project= kind= count=0 i word
  local commands=')",
                      NamesOf(root), R"('
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ $word == -- ]]; then
      COMPREPLY=()
      return
    elif [[ $word == -* ]]; then
      if ((i + 1 < COMP_CWORD)) && _vibe_value "$word"; then
        ((i++))
      fi
    elif [[ -z $command ]]; then
      command=$word
    else
      case $command in
        )",
                      with_subcommands, R"() command+=" $word" ;;
        *)
          [[ $count -eq 0 ]] && project=$word
          ((count++))
          ;;
      esac
    fi
  done
  COMPREPLY=()
  if [[ $previous == -* ]] && _vibe_value "$previous"; then
    _vibe_offer "$kind"
    return
  fi
  if [[ $cur == -* ]]; then
)",
                      OptionCases(root, commands), R"(    _vibe_words "$options"
    return
  fi
  case $command:$count in
)",
                      ArgumentCases(commands), R"(  esac
}

complete -F _vibe vibe
)");
}

}  // namespace vibe::cli
