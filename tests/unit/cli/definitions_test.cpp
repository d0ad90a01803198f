#include "cli/definitions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "cli/completion.h"

namespace vibe::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Invocation Parsed(const std::vector<std::string>& args) {
  const ParseOutcome outcome = ParseArguments(args);
  EXPECT_TRUE(outcome.invocation.has_value()) << outcome.error << outcome.help;
  return outcome.invocation.value_or(Invocation{});
}

std::string UsageFault(const std::vector<std::string>& args) {
  const ParseOutcome outcome = ParseArguments(args);
  EXPECT_FALSE(outcome.invocation.has_value());
  EXPECT_THAT(outcome.help, IsEmpty());
  EXPECT_FALSE(outcome.error.ok());
  EXPECT_THAT(AdviceOf(outcome.error), HasSubstr("--help"));
  return std::string(outcome.error.message());
}

TEST(ParseArguments, ReadsOpen) {
  const Invocation open = Parsed({"open", "examples/notes", "--name", "work", "-y"});
  EXPECT_EQ(open.command, "open");
  EXPECT_EQ(open.path, "examples/notes");
  EXPECT_EQ(open.new_name, "work");
  EXPECT_EQ(open.name, "");
  EXPECT_TRUE(open.yes);
}

TEST(ParseArguments, TakesGlobalOptionsBeforeAndAfterTheCommand) {
  const Invocation before = Parsed({"--json", "--home", "/h", "ps"});
  EXPECT_TRUE(before.global.json);
  EXPECT_EQ(before.global.home, "/h");
  const Invocation after = Parsed({"machine", "status", "--json", "--home=/h", "--no-color"});
  EXPECT_EQ(after.command, "machine status");
  EXPECT_TRUE(after.global.json);
  EXPECT_TRUE(after.global.no_color);
  EXPECT_EQ(after.global.home, "/h");
}

TEST(ParseArguments, ReadsMachineCommands) {
  const Invocation logs = Parsed({"machine", "logs", "-f", "-n", "7"});
  EXPECT_EQ(logs.command, "machine logs");
  EXPECT_TRUE(logs.follow);
  EXPECT_EQ(logs.tail, 7u);
  EXPECT_TRUE(Parsed({"machine", "reset", "--yes"}).yes);
  EXPECT_EQ(Parsed({"machine", "restart"}).command, "machine restart");
}

TEST(ParseArguments, TakesNamesThatAreCommandsToo) {
  EXPECT_EQ(Parsed({"start", "stop"}).name, "stop");
  EXPECT_EQ(Parsed({"ps", "machine"}).name, "machine");
  EXPECT_EQ(Parsed({"rm", "rm"}).command, "rm");
  const Invocation exec = Parsed({"exec", "exec", "exec"});
  EXPECT_EQ(exec.name, "exec");
  EXPECT_THAT(exec.words, ElementsAre("exec"));
}

TEST(ParseArguments, ReadsLogs) {
  const Invocation logs = Parsed({"logs", "-fn", "5", "-s", "db", "notes"});
  EXPECT_TRUE(logs.follow);
  EXPECT_EQ(logs.tail, 5u);
  EXPECT_EQ(logs.service, "db");
  EXPECT_EQ(logs.name, "notes");
  EXPECT_EQ(Parsed({"logs", "notes"}).tail, 100u);
  EXPECT_EQ(Parsed({"logs", "-n", "1", "-n", "2", "notes"}).tail, 2u);
}

TEST(ParseArguments, LeavesTheWordsOfExecAlone) {
  const Invocation exec =
      Parsed({"exec", "-s", "db", "notes", "-it", "--", "ls", "--json", "-s", "--", "x"});
  EXPECT_EQ(exec.name, "notes");
  EXPECT_EQ(exec.service, "db");
  EXPECT_EQ(exec.interactive, true);
  EXPECT_EQ(exec.tty, true);
  EXPECT_FALSE(exec.global.json);
  EXPECT_THAT(exec.words, ElementsAre("ls", "--json", "-s", "--", "x"));
}

TEST(ParseArguments, BeginsTheCommandOfExecAfterTheNameWithoutDashes) {
  const Invocation exec = Parsed({"--json", "exec", "-s", "db", "notes", "ls", "-l", "--help"});
  EXPECT_TRUE(exec.global.json);
  EXPECT_EQ(exec.service, "db");
  EXPECT_THAT(exec.words, ElementsAre("ls", "-l", "--help"));
  EXPECT_EQ(exec.interactive, std::nullopt);
  EXPECT_EQ(Parsed({"exec", "notes", "--no-tty", "--", "ls"}).tty, false);
}

TEST(ParseArguments, KeepsEmptyWordsOfExec) {
  EXPECT_THAT(Parsed({"exec", "notes", "--", "echo", "", "a b"}).words,
              ElementsAre("echo", "", "a b"));
}

TEST(ParseArguments, ReadsTimeouts) {
  EXPECT_EQ(Parsed({"stop", "notes", "-t", "0"}).timeout, 0u);
  EXPECT_EQ(Parsed({"restart", "notes", "--timeout=600"}).timeout, 600u);
  EXPECT_EQ(Parsed({"stop", "notes"}).timeout, std::nullopt);
}

TEST(ParseArguments, SaysWhatIsWrong) {
  EXPECT_THAT(UsageFault({"opne", "x"}), HasSubstr("no command \"opne\" (did you mean open?)"));
  EXPECT_THAT(UsageFault({"machine", "sttaus"}), HasSubstr("did you mean status?"));
  EXPECT_THAT(UsageFault({"machine"}),
              HasSubstr("needs a command: status, start, stop, restart, logs, reset"));
  EXPECT_THAT(UsageFault({"open"}), HasSubstr("PATH is missing"));
  EXPECT_THAT(UsageFault({"grant", "notes"}), HasSubstr("vibe grant [OPTIONS] NAME CAPABILITY..."));
  EXPECT_THAT(UsageFault({"exec", "notes"}), HasSubstr("COMMAND is missing"));
  EXPECT_THAT(UsageFault({"open", "x", "--yse"}),
              HasSubstr("no option --yse (did you mean --yes?)"));
  EXPECT_THAT(UsageFault({"start", "a", "b"}), HasSubstr("\"b\" is one word too many"));
  EXPECT_THAT(UsageFault({"logs", "a", "-n", "-1"}), HasSubstr("whole number from 0 to 100000"));
  EXPECT_THAT(UsageFault({"logs", "a", "-n", "many"}), HasSubstr("\"many\""));
  EXPECT_THAT(UsageFault({"stop", "a", "-t", "601"}), HasSubstr("0 to 600"));
  EXPECT_THAT(UsageFault({"rm", ""}), HasSubstr("NAME is empty"));
  EXPECT_THAT(UsageFault({"exec", "a", "-t", "--no-tty", "--", "ls"}), HasSubstr("contradict"));
  UsageFault({"logs", "a", "-n"});
  UsageFault({"help", "nothing"});
  UsageFault({std::string(65 << 10, 'a')});
}

TEST(ParseArguments, SeesJsonInWhatItCannotParse) {
  EXPECT_TRUE(ParseArguments({"open", "--json"}).json);
  EXPECT_FALSE(ParseArguments({"open"}).json);
  EXPECT_FALSE(ParseArguments({"exec", "a", "ls", "--json"}).json);
}

TEST(Help, ExplainsEveryCommandWithAnExample) {
  const CommandText root = DescribeCommands();
  for (const FlatCommand& entry : Flatten(root)) {
    SCOPED_TRACE(entry.path);
    std::vector<std::string> words = absl::StrSplit(entry.path, ' ');
    std::vector<std::string> asked = words;
    asked.insert(asked.begin(), "help");
    words.push_back("--help");
    const std::string help = ParseArguments(words).help;
    EXPECT_THAT(help, HasSubstr(absl::StrCat("Usage: vibe ", entry.path, " ")));
    EXPECT_EQ(help, ParseArguments(asked).help);
    EXPECT_FALSE(entry.command.summary.empty());
    EXPECT_FALSE(entry.command.description.empty());
    if (entry.command.subcommands.empty()) {
      EXPECT_THAT(help, HasSubstr("Examples:"));
    }
    for (const absl::string_view line : absl::StrSplit(help, '\n')) {
      EXPECT_LE(line.size(), 90u) << line;
    }
  }
}

TEST(Help, ListsTheCommands) {
  const std::string help = ParseArguments({}).help;
  EXPECT_EQ(help, ParseArguments({"help"}).help);
  EXPECT_EQ(help, ParseArguments({"--help"}).help);
  for (const CommandText& command : DescribeCommands().subcommands) {
    EXPECT_THAT(help, HasSubstr(command.summary));
  }
}

TEST(Help, ComesBeforeComplaints) {
  EXPECT_THAT(ParseArguments({"open", "--help"}).help, HasSubstr("vibe open"));
  EXPECT_THAT(ParseArguments({"machine", "-h"}).help, HasSubstr("vibe machine"));
  EXPECT_EQ(Parsed({"--version"}).command, "version");
}

}  // namespace
}  // namespace vibe::cli
