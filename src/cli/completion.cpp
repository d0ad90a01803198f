#include "cli/completion.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

void AddTo(std::vector<FlatCommand>& list, const CommandText& parent, const std::string& prefix) {
  for (const CommandText& command : parent.subcommands) {
    const std::string path =
        prefix.empty() ? command.name : absl::StrCat(prefix, " ", command.name);
    list.push_back({path, command});
    AddTo(list, command, path);
  }
}

}  // namespace

absl::StatusOr<std::string> RenderCompletion(const std::string& shell, const CommandText& root) {
  if (shell == "bash") {
    return RenderBashCompletion(root);
  }
  if (shell == "zsh") {
    return RenderZshCompletion(root);
  }
  if (shell == "fish") {
    return RenderFishCompletion(root);
  }
  return WithAdvice(absl::InvalidArgumentError(
                        absl::StrCat("there is no completion for the shell ", Escape(shell))),
                    "choose bash, zsh or fish");
}

Words WordsOf(const OptionText& option) {
  const std::string& kind = option.positional ? option.names.front() : option.value;
  if (kind == "NAME") {
    // The value of --name is a new one.
    return option.positional ? Words::kProjects : Words::kNone;
  }
  if (kind == "PATH") {
    return Words::kFiles;
  }
  if (kind == "DIR") {
    return Words::kFolders;
  }
  if (kind == "SERVICE") {
    return Words::kServices;
  }
  if (kind == "ID") {
    return Words::kSnapshots;
  }
  if (kind == "SHELL") {
    return Words::kShells;
  }
  if (kind == "CAPABILITY") {
    return Words::kCapabilities;
  }
  // The COMMAND of help is optional, that of exec lies in the container.
  return kind == "COMMAND" && !option.required ? Words::kCommands : Words::kNone;
}

std::vector<FlatCommand> Flatten(const CommandText& root) {
  std::vector<FlatCommand> list;
  AddTo(list, root, "");
  return list;
}

}  // namespace vibe::cli
