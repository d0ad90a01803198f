#include "cli/definitions.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "cli/help_text.h"

namespace vibe::cli {
namespace {

constexpr uint32_t kMaxTail = 100'000;
constexpr uint32_t kMaxTimeout = 600;
constexpr size_t kMaxWord = 64 << 10;
constexpr char kComplete[] = "__complete";

absl::Status UsageError(absl::string_view message, absl::string_view path) {
  return WithAdvice(absl::InvalidArgumentError(message),
                    absl::StrCat("see `vibe ", path, path.empty() ? "" : " ", "--help`"));
}

// Edits between two words, for "did you mean".
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) {
    row[j] = j;
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

std::string Nearest(const std::string& word, const std::vector<std::string>& known) {
  std::string best;
  size_t best_distance = 3;  // more edits than two is another word
  for (const std::string& candidate : known) {
    const size_t distance = Distance(word.substr(0, 64), candidate);
    if (distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best.empty() ? "" : absl::StrCat(" (did you mean ", best, "?)");
}

std::vector<std::string> NamesOf(const CommandText& command, const CommandText& root) {
  std::vector<std::string> names;
  for (const std::vector<OptionText>* options : {&command.options, &root.options}) {
    for (const OptionText& option : *options) {
      if (!option.positional) {
        names.insert(names.end(), option.names.begin(), option.names.end());
      }
    }
  }
  return names;
}

std::string KeyOf(const OptionText& option) {
  return option.names.back();
}

// What CLI11 found, by the key of the option. Flags have one empty value.
using Values = std::map<std::string, std::vector<std::string>>;

absl::Status ReadNumber(const Values& values, const std::string& key, uint32_t max,
                        const std::function<void(uint32_t)>& set) {
  const auto found = values.find(key);
  if (found == values.end()) {
    return absl::OkStatus();
  }
  const std::string& text = found->second.back();
  uint32_t number = 0;
  if (text.empty() || text[0] == '+' || !absl::SimpleAtoi(text, &number) || number > max) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, " takes a whole number from 0 to ", max, ", not \"", text, "\""));
  }
  set(number);
  return absl::OkStatus();
}

std::optional<bool> ReadChoice(const Values& values, const std::string& yes,
                               const std::string& no) {
  const bool has_yes = values.count(yes) > 0;
  if (!has_yes && values.count(no) == 0) {
    return std::nullopt;
  }
  return has_yes;
}

absl::Status FillText(const Values& values, const std::string& key, std::string& field) {
  const auto found = values.find(key);
  if (found == values.end()) {
    return absl::OkStatus();
  }
  field = found->second.back();
  if (field.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(key, " is empty"));
  }
  return absl::OkStatus();
}

absl::Status Fill(const Values& values, Invocation& invocation) {
  const auto has = [&](const char* key) { return values.count(key) > 0; };
  invocation.global.json = has("--json");
  invocation.global.no_color = has("--no-color");
  invocation.yes = has("--yes");
  invocation.keep_data = has("--keep-data");
  invocation.follow = has("--follow");
  invocation.off = has("--off");
  invocation.no_safety = has("--no-safety");
  invocation.verify = has("--verify");
  invocation.skip_hooks = has("--skip-hooks");
  if (const auto labels = values.find("--label"); labels != values.end()) {
    invocation.labels = labels->second;
  }
  if (const auto ports = values.find("--port"); ports != values.end()) {
    invocation.ports = ports->second;
  }
  for (const auto& [yes, no] :
       {std::pair("--interactive", "--no-interactive"), {"--tty", "--no-tty"}}) {
    if (has(yes) && has(no)) {
      return absl::InvalidArgumentError(absl::StrCat(yes, " and ", no, " contradict each other"));
    }
  }
  invocation.interactive = ReadChoice(values, "--interactive", "--no-interactive");
  invocation.tty = ReadChoice(values, "--tty", "--no-tty");
  VIBE_RETURN_IF_ERROR(FillText(values, "--home", invocation.global.home));
  VIBE_RETURN_IF_ERROR(FillText(values, "--service", invocation.service));
  VIBE_RETURN_IF_ERROR(FillText(values, "--name", invocation.new_name));
  VIBE_RETURN_IF_ERROR(FillText(values, "NAME", invocation.name));
  VIBE_RETURN_IF_ERROR(FillText(values, "NEW", invocation.new_name));
  VIBE_RETURN_IF_ERROR(FillText(values, "ID", invocation.snapshot));
  VIBE_RETURN_IF_ERROR(FillText(values, "--from", invocation.snapshot));
  VIBE_RETURN_IF_ERROR(FillText(values, "--message", invocation.message));
  VIBE_RETURN_IF_ERROR(FillText(values, "PATH", invocation.path));
  VIBE_RETURN_IF_ERROR(FillText(values, "SHELL", invocation.shell));
  VIBE_RETURN_IF_ERROR(
      ReadNumber(values, "--tail", kMaxTail, [&](uint32_t n) { invocation.tail = n; }));
  VIBE_RETURN_IF_ERROR(
      ReadNumber(values, "--timeout", kMaxTimeout, [&](uint32_t n) { invocation.timeout = n; }));
  for (const char* key : {"COMMAND", "CAPABILITY"}) {
    if (const auto words = values.find(key); words != values.end()) {
      invocation.words = words->second;
    }
  }
  return absl::OkStatus();
}

// One parse with CLI11, which wants its variables to stay where they are.
class Parser {
 public:
  explicit Parser(const CommandText& root) : root_(root), app_("", "vibe") {
    app_.set_help_flag("-h,--help");
    app_.require_subcommand(1);
    app_.fallthrough();
    Add(app_, root, "");
  }

  ParseOutcome Parse(std::vector<std::string> args) {
    std::reverse(args.begin(), args.end());
    ParseOutcome outcome;
    try {
      app_.parse(args);
    } catch (const CLI::CallForHelp&) {
      outcome.help = RenderHelp(root_, Deepest(), Path());
      return outcome;
    } catch (const CLI::ParseError& error) {
      outcome.error = Explain(error);
      return outcome;
    }
    Invocation invocation;
    invocation.command = Path();
    for (const Bound& bound : bound_) {
      if (bound.option->count() > 0 && (bound.path.empty() || bound.path == Path())) {
        values_[bound.key] = bound.values;
      }
    }
    if (const absl::Status status = Fill(values_, invocation); !status.ok()) {
      outcome.error = UsageError(status.message(), Path());
      return outcome;
    }
    outcome.invocation = std::move(invocation);
    return outcome;
  }

 private:
  struct Bound {
    std::string path;
    std::string key;
    CLI::Option* option = nullptr;
    bool flag = false;
    bool is_set = false;
    std::vector<std::string> values;
  };

  void Add(CLI::App& app, const CommandText& command, const std::string& path) {
    for (const OptionText& option : command.options) {
      if (KeyOf(option) != "--help") {
        AddOption(app, option, path);
      }
    }
    for (const CommandText& subcommand : command.subcommands) {
      CLI::App* added = app.add_subcommand(subcommand.name);
      added->set_help_flag("-h,--help");
      added->fallthrough();
      if (!subcommand.subcommands.empty()) {
        added->require_subcommand(1);
      }
      Add(*added, subcommand,
          path.empty() ? subcommand.name : absl::StrCat(path, " ", subcommand.name));
    }
  }

  void AddOption(CLI::App& app, const OptionText& option, const std::string& path) {
    Bound& bound = bound_.emplace_back();
    bound.path = path;
    bound.key = KeyOf(option);
    const std::string names = absl::StrJoin(option.names, ",");
    if (!option.positional && option.value.empty()) {
      bound.option = app.add_flag(names, bound.is_set);
      return;
    }
    bound.option = app.add_option(names, bound.values);
    bound.option->required(option.required);
    if (!option.repeated) {
      bound.option->expected(1)->allow_extra_args(false);
      if (!option.positional) {
        bound.option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
      }
    } else if (!option.positional) {
      bound.option->allow_extra_args(false);  // each takes one word, and may come again
    }
  }

  std::string Path() const {
    std::vector<std::string> words;
    for (const CLI::App* app = &app_; !app->get_subcommands().empty();) {
      app = app->get_subcommands().front();
      words.push_back(app->get_name());
    }
    return absl::StrJoin(words, " ");
  }

  const CommandText& Deepest() const {
    const CommandText* command = FindCommand(root_, absl::StrSplit(Path(), ' ', absl::SkipEmpty()));
    return command == nullptr ? root_ : *command;
  }

  // The words that no command and no option wanted.
  std::vector<std::string> Remaining() const { return app_.remaining(true); }

  // CLI11's messages are made for programmers.
  absl::Status Explain(const CLI::ParseError& error) const {
    const std::string path = Path();
    const CommandText& command = Deepest();
    const std::vector<std::string> remaining = Remaining();
    if (!command.subcommands.empty()) {
      std::vector<std::string> known;
      for (const CommandText& subcommand : command.subcommands) {
        known.push_back(subcommand.name);
      }
      for (const std::string& word : remaining) {
        if (word[0] != '-') {
          return UsageError(absl::StrCat("vibe ", path, path.empty() ? "" : " ",
                                         "has no command \"", word, "\"", Nearest(word, known)),
                            path);
        }
      }
      if (remaining.empty()) {
        return UsageError(absl::StrCat("vibe ", path, path.empty() ? "" : " ",
                                       "needs a command: ", absl::StrJoin(known, ", ")),
                          path);
      }
    }
    for (const std::string& word : remaining) {
      if (word.size() > 1 && word[0] == '-') {
        const std::string name = word.substr(0, word.find('='));
        return UsageError(
            absl::StrCat("there is no option ", name, Nearest(name, NamesOf(command, root_))),
            path);
      }
    }
    for (const OptionText& option : command.options) {
      const Bound* bound = Find(path, KeyOf(option));
      if (option.required && bound != nullptr && bound->option->count() == 0) {
        return UsageError(absl::StrCat(KeyOf(option), " is missing: ", UsageOf(command, path)),
                          path);
      }
    }
    if (!remaining.empty()) {
      return UsageError(absl::StrCat("\"", remaining.front(),
                                     "\" is one word too many: ", UsageOf(command, path)),
                        path);
    }
    return UsageError(error.what(), path);
  }

  const Bound* Find(const std::string& path, const std::string& key) const {
    for (const Bound& bound : bound_) {
      if (bound.path == path && bound.key == key) {
        return &bound;
      }
    }
    return nullptr;
  }

  const CommandText& root_;
  CLI::App app_;
  std::deque<Bound> bound_;
  Values values_;
};

const OptionText* FindOption(const CommandText& command, const CommandText& root,
                             const std::string& name) {
  for (const std::vector<OptionText>* options : {&command.options, &root.options}) {
    for (const OptionText& option : *options) {
      if (std::find(option.names.begin(), option.names.end(), name) != option.names.end()) {
        return &option;
      }
    }
  }
  return nullptr;
}

bool TakesNextWord(const CommandText& command, const CommandText& root, const std::string& word) {
  const OptionText* option = FindOption(command, root, word);
  return option != nullptr && !option->value.empty();
}

// `exec NAME COMMAND…`: where the command begins, whose words are none of ours. Its "--" is taken
// out.
size_t CommandBegin(std::vector<std::string>& args, const CommandText& root,
                    const CommandText& exec) {
  int words = 0;
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--") {
      args.erase(args.begin() + static_cast<std::ptrdiff_t>(i));
      return i;
    }
    if (TakesNextWord(exec, root, args[i])) {
      ++i;
    } else if (args[i].size() < 2 || args[i][0] != '-') {
      if (++words == 3) {  // after "exec" and NAME
        return i;
      }
    }
  }
  return args.size();
}

std::string FirstWord(const std::vector<std::string>& args, const CommandText& root) {
  for (size_t i = 0; i < args.size(); ++i) {
    if (TakesNextWord(root, root, args[i])) {
      ++i;
    } else if (args[i].empty() || args[i][0] != '-') {
      return args[i];
    }
  }
  return "";
}

bool WantsJson(const std::vector<std::string>& args) {
  const auto end = std::find(args.begin(), args.end(), "--");
  return std::find(args.begin(), end, "--json") != end;
}

ParseOutcome ExplainCommand(const CommandText& root, const std::vector<std::string>& words) {
  ParseOutcome outcome;
  const CommandText* command = FindCommand(root, words);
  if (command == nullptr) {
    std::vector<std::string> known;
    for (const CommandText& subcommand : root.subcommands) {
      known.push_back(subcommand.name);
    }
    outcome.error = UsageError(absl::StrCat("there is no command \"", absl::StrJoin(words, " "),
                                            "\"", Nearest(words.front(), known)),
                               "");
    return outcome;
  }
  outcome.help = RenderHelp(root, *command, absl::StrJoin(words, " "));
  return outcome;
}

ParseOutcome ParseWords(const std::vector<std::string>& given) {
  const CommandText root = DescribeCommands();
  std::vector<std::string> args = given;
  for (const std::string& word : args) {
    if (word.size() > kMaxWord) {
      ParseOutcome outcome;
      outcome.error = UsageError("a word of the command line is over 64 KiB long", "");
      return outcome;
    }
  }
  if (!args.empty() && args[0] == kComplete) {
    ParseOutcome outcome;
    outcome.invocation.emplace();
    outcome.invocation->command = kComplete;
    outcome.invocation->words.assign(args.begin() + 1, args.end());
    return outcome;
  }
  if (!args.empty() && args[0] == "--version") {
    args[0] = "version";
  }
  const std::string first = FirstWord(args, root);
  if (args.empty()) {
    return ExplainCommand(root, {});
  }
  std::vector<std::string> command;
  if (const CommandText* exec = FindCommand(root, {"exec"}); first == "exec") {
    const size_t begin = CommandBegin(args, root, *exec);
    command.assign(args.begin() + static_cast<std::ptrdiff_t>(begin), args.end());
    args.resize(begin);
    if (!command.empty()) {
      args.push_back("command");  // one harmless word in its place
    }
  }
  Parser parser(root);
  ParseOutcome outcome = parser.Parse(args);
  if (outcome.invocation && outcome.invocation->command == "exec") {
    outcome.invocation->words = command;
  }
  if (outcome.invocation && outcome.invocation->command == "help") {
    return ExplainCommand(root, outcome.invocation->words);
  }
  return outcome;
}

}  // namespace

ParseOutcome ParseArguments(const std::vector<std::string>& args) {
  ParseOutcome outcome = ParseWords(args);
  outcome.json = outcome.invocation ? outcome.invocation->global.json : WantsJson(args);
  return outcome;
}

}  // namespace vibe::cli
