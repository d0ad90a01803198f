// The completion scripts of the shells, made from the table of commands. Pure.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/definitions.h"

namespace vibe::cli {

// `shell` is bash, zsh or fish; InvalidArgument for another.
absl::StatusOr<std::string> RenderCompletion(const std::string& shell, const CommandText& root);

std::string RenderBashCompletion(const CommandText& root);
std::string RenderZshCompletion(const CommandText& root);
std::string RenderFishCompletion(const CommandText& root);

// What a value or an argument is completed with.
enum class Words {
  kNone,
  kProjects,
  kServices,
  kSnapshots,
  kFiles,
  kFolders,
  kShells,
  kCommands,
  kCapabilities
};
Words WordsOf(const OptionText& option);

// A command with all its words, as in "machine start", without the root; parents stand before
// children.
struct FlatCommand {
  std::string path;
  CommandText command;
};
std::vector<FlatCommand> Flatten(const CommandText& root);

}  // namespace vibe::cli
