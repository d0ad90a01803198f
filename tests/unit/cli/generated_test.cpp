// The manual page and the completion scripts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/random.h"
#include "base/subprocess.h"
#include "cli/completion.h"
#include "cli/man_page.h"

namespace vibe::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;

class GeneratedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / absl::StrCat("vibe-generated-", RandomHex(6));
    ASSERT_TRUE(MakeDirectories(directory_).ok());
    // Stands for the program that the scripts ask for names.
    ASSERT_TRUE(ReplaceFile(directory_ / "vibe",
                            "#!/bin/sh\n"
                            "[ \"$2\" = projects ] && printf 'notes\\nbookmarks\\n'\n"
                            "[ \"$2 $3\" = 'services notes' ] && printf 'web\\ndb\\n'\n"
                            "exit 0\n",
                            0755)
                    .ok());
  }
  void TearDown() override { EXPECT_TRUE(RemoveAll(directory_).ok()); }

  std::string Write(const std::string& name, const std::string& text) {
    const fs::path path = directory_ / name;
    EXPECT_TRUE(ReplaceFile(path, text).ok());
    return path.string();
  }

  // Whether the machine has that shell, and the script is well formed for it.
  bool CheckSyntax(const std::string& shell, const std::string& path) {
    SubprocessOptions options;
    options.args = {shell, "-n", path};
    const absl::StatusOr<SubprocessResult> result = RunSubprocess(options);
    if (!result.ok() || result->exit_code == 127) {
      return false;
    }
    EXPECT_EQ(result->exit_code, 0) << result->err;
    return true;
  }

  // What the script offers for the last of `words`.
  std::vector<std::string> Complete(const std::vector<std::string>& words) {
    const std::string script = Write("vibe.bash", RenderBashCompletion(DescribeCommands()));
    std::vector<std::string> quoted;
    for (const std::string& word : words) {
      quoted.push_back(absl::StrCat("'", word, "'"));
    }
    SubprocessOptions options;
    options.args = {"bash", "-c",
                    absl::StrCat("cd ", directory_.string(), "; . ", script, "; COMP_WORDS=(",
                                 directory_.string(), "/vibe ", absl::StrJoin(quoted, " "),
                                 "); COMP_CWORD=", words.size(),
                                 "; _vibe; printf '%s\\n' \"${COMPREPLY[@]}\"")};
    const absl::StatusOr<SubprocessResult> result = RunSubprocess(options);
    EXPECT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->err, "");
    return absl::StrSplit(result->out, '\n', absl::SkipEmpty());
  }

  fs::path directory_;
};

TEST_F(GeneratedTest, ManPageInDocsIsUpToDate) {
  const absl::StatusOr<std::string> page =
      ReadFile(fs::path(VIBE_TEST_SOURCE_DIR) / "../docs/man/vibe.1", 1 << 20);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(*page, RenderManPage(DescribeCommands()))
      << "write it again: build/bin/vibe man > docs/man/vibe.1";
}

TEST_F(GeneratedTest, ManPageIsWellFormed) {
  SubprocessOptions options;
  options.args = {"groff", "-man", "-Tutf8",
                  "-ww",   "-z",   Write("vibe.1", RenderManPage(DescribeCommands()))};
  const absl::StatusOr<SubprocessResult> result = RunSubprocess(options);
  if (!result.ok() || result->exit_code == 127) {
    GTEST_SKIP() << "there is no groff";
  }
  EXPECT_EQ(result->exit_code, 0);
  EXPECT_EQ(result->err, "");
}

TEST_F(GeneratedTest, ScriptsAreWellFormed) {
  const CommandText root = DescribeCommands();
  for (const std::string shell : {"bash", "zsh", "fish"}) {
    const absl::StatusOr<std::string> script = RenderCompletion(shell, root);
    ASSERT_TRUE(script.ok());
    const bool checked = CheckSyntax(shell, Write(shell, *script));
    EXPECT_TRUE(checked || shell != "bash");
  }
  EXPECT_TRUE(absl::IsInvalidArgument(RenderCompletion("csh", root).status()));
}

TEST_F(GeneratedTest, BashCompletesCommands) {
  EXPECT_THAT(Complete({""}), IsSupersetOf({"open", "ps", "machine", "help"}));
  EXPECT_THAT(Complete({"op"}), ElementsAre("open"));
  EXPECT_THAT(Complete({"machine", ""}),
              ElementsAre("status", "start", "stop", "restart", "logs", "reset"));
  EXPECT_THAT(Complete({"--json", "machine", "sto"}), ElementsAre("stop"));
  EXPECT_THAT(Complete({"machine", "logs", "--f"}), ElementsAre("--follow"));
  EXPECT_THAT(Complete({"machine", "reset", "--y"}), ElementsAre("--yes"));
  EXPECT_THAT(Complete({"--home", "/", "rest"}), ElementsAre("restart", "restore"));
  EXPECT_THAT(Complete({"help", "vali"}), ElementsAre("validate"));
  EXPECT_THAT(Complete({"completion", ""}), ElementsAre("bash", "zsh", "fish"));
}

TEST_F(GeneratedTest, BashCompletesOptions) {
  EXPECT_THAT(Complete({"open", "--y"}), ElementsAre("--yes"));
  EXPECT_THAT(Complete({"open", "-"}), IsSupersetOf({"--name", "--json", "--help"}));
  EXPECT_THAT(Complete({"ps", "-"}), Not(Contains("--yes")));
}

TEST_F(GeneratedTest, BashCompletesNames) {
  EXPECT_THAT(Complete({"stop", ""}), ElementsAre("notes", "bookmarks"));
  EXPECT_THAT(Complete({"stop", "notes", ""}), IsEmpty());
  EXPECT_THAT(Complete({"stop", "-t", ""}), IsEmpty());
  EXPECT_THAT(Complete({"stop", "-t", "5", "b"}), ElementsAre("bookmarks"));
  EXPECT_THAT(Complete({"exec", "-t", "n"}), ElementsAre("notes"));
  EXPECT_THAT(Complete({"logs", "notes", "-s", ""}), ElementsAre("web", "db"));
  EXPECT_THAT(Complete({"machine", "start", ""}), IsEmpty());
  EXPECT_THAT(Complete({"exec", "notes", "--", "n"}), IsEmpty());
}

TEST_F(GeneratedTest, BashCompletesFiles) {
  Write("an app.yaml", "");
  EXPECT_THAT(Complete({"open", "an"}), ElementsAre("an app.yaml"));
}

}  // namespace
}  // namespace vibe::cli
