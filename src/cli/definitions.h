// The commands of vibe, defined once: the parser, --help, the shell completions and the man page
// all come from DescribeCommands (command_table.cpp). CLI11 stays inside definitions.cpp. Pure and
// thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace vibe::cli {

struct GlobalOptions {
  bool json = false;
  bool no_color = false;
  std::string home;  // empty: $VIBE_HOME, else ~/.vibe
};

// What the user asked for. Only the fields of `command` have a meaning.
struct Invocation {
  GlobalOptions global;
  std::string command;  // "open", "machine start"

  std::string name;  // NAME of a project
  std::string path;  // PATH of an app
  std::string shell;
  std::string service;              // --service
  std::string new_name;             // open --name, duplicate NEW
  std::string snapshot;             // ID of a snapshot, duplicate --from
  std::string message;              // save --message
  std::vector<std::string> labels;  // save --label, each KEY=VALUE
  std::vector<std::string> ports;   // open --port, each SERVICE:HOSTPORT…
  bool no_safety = false;           // restore --no-safety
  bool verify = false;              // restore --verify
  bool skip_hooks = false;          // save, restore --skip-hooks
  bool yes = false;                 // --yes
  bool keep_data = false;           // rm --keep-data
  bool off = false;                 // machine stop --off
  bool follow = false;              // logs --follow
  uint32_t tail = 100;              // logs --tail
  std::optional<uint32_t> timeout;  // stop --timeout, seconds
  std::optional<bool> interactive;  // exec -i, --no-interactive
  std::optional<bool> tty;          // exec -t, --no-tty
  std::vector<std::string>
      words;  // exec -- COMMAND…, grant CAPABILITY…, and those of the hidden __complete
};

// What to do after parsing: run an invocation, or print and end.
struct ParseOutcome {
  std::optional<Invocation> invocation;
  std::string help;    // asked for: goes to stdout, exit code 0
  absl::Status error;  // of usage: exit code 2
  bool json = false;   // --json was among the words, whatever came of them
};

// `args` without the program's name.
ParseOutcome ParseArguments(const std::vector<std::string>& args);

// The tree of commands as plain values.
struct OptionText {
  std::vector<std::string> names;  // "-n", "--tail"; the word itself for a positional
  std::string value;               // "N"; empty for a flag
  std::string description;
  bool positional = false;
  bool required = false;
  bool repeated = false;
};

struct CommandText {
  std::string name;                 // the last word
  std::string summary;              // half a line, for lists of commands
  std::string description;          // sentences; paragraphs are parted by an empty line
  std::vector<OptionText> options;  // positionals first
  std::vector<CommandText> subcommands;
  struct Example {
    std::string command;
    std::string effect;
  };
  std::vector<Example> examples;
};

// The root: its options are the global ones, which every command takes too.
CommandText DescribeCommands();

// The command of these words, as in {"machine", "start"}; null when there is none.
const CommandText* FindCommand(const CommandText& root, const std::vector<std::string>& words);

}  // namespace vibe::cli
