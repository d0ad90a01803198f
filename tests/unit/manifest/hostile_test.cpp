// Files that are no manifests at all, or want to hurt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "manifests.h"

namespace vibe::manifest {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string Repeated(const std::string& text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) {
    all += text;
  }
  return all;
}

TEST(Hostile, TextsAreRefusedWithTheirPlace) {
  const struct {
    std::string text, report;
  } cases[] = {
      {"", "1:1: error: the file is empty; a manifest starts with \"kind: vibe.app/v1\"\n"},
      {"# only a comment\n",
       "1:1: error: the file is empty; a manifest starts with \"kind: vibe.app/v1\"\n"},
      {"a: \xff\n", "1:4: error: the file is not UTF-8 text: save it as UTF-8\n"},
      {"é: b\nc: \xc3\x28\n", "2:4: error: the file is not UTF-8 text: save it as UTF-8\n"},
      {"a: \xed\xa0\x80\n", "1:4: error: the file is not UTF-8 text: save it as UTF-8\n"},
      {"a: \xc0\xaf\n", "1:4: error: the file is not UTF-8 text: save it as UTF-8\n"},
      {std::string("a: b\nc\0d", 8),
       "2:2: error: the control character U+0000 cannot stand in a manifest: remove it\n"},
      // The parser would take this for the end of the file and never see the rest.
      {"a: b\n\x04"
       "evil: c\n",
       "2:1: error: the control character U+0004 cannot stand in a manifest: remove it\n"},
      {"a: [1, 2\nb: 3\n",
       "2:2: error: not valid YAML: a \"[\" is not closed, or a \",\" is missing before this\n"},
      {"a: 1\n\tb: 2\n", "2:1: error: not valid YAML: indent with spaces, not with tabs\n"},
      {"a: b: c\n",
       "1:5: error: not valid YAML: a \":\" cannot stand here: put text that holds one in "
       "quotes\n"},
      {"a: b\n- c\n",
       "2:1: error: not valid YAML: this does not fit the mapping that it stands in: check the "
       "indentation "
       "and the \":\" after the key\n"},
      {"a: *x\n",
       "1:4: error: not valid YAML: aliases (*name) are not read in a manifest; text that starts "
       "with * "
       "needs quotes\n"},
  };
  for (const auto& bad : cases) {
    EXPECT_EQ(Report(bad.text), bad.report) << bad.text;
    EXPECT_FALSE(Parse(bad.text).manifest.has_value());
  }
}

TEST(Hostile, AliasesAreRefusedAndTheRestIsStillChecked) {
  EXPECT_EQ(
      Report(WithService("    env: &env {A: b}\n    command: *env\n    usr: x\n    <<: *env\n")),
      "9:14: error: services[0].command: aliases (*name) are not read in a manifest: write the "
      "value "
      "out\n"
      "10:5: error: services[0].usr: unknown key \"usr\"; did you mean \"user\"?\n"
      "11:5: error: services[0].\"<<\": unknown key \"<<\"; known are name, aliases, image, "
      "entrypoint, "
      "command, "
      "env, ports, mounts, stateVolumes, tmpfs, dependsOn, healthcheck, hooks, workingDir, user, "
      "restart, "
      "resources\n"
      "11:9: error: services[0].\"<<\": aliases (*name) are not read in a manifest: write the "
      "value "
      "out\n");
}

TEST(Hostile, AnAliasBombIsRefusedAtOnce) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 100; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    const std::string name = "a" + std::to_string(i);
    bomb += name + ": &" + name + " [" + Repeated(last + ", ", 8) + last + "]\n";
  }
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(Parse(bomb).manifest.has_value());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(Hostile, DuplicateKeysAreRefused) {
  EXPECT_EQ(Report(WithService("    env: {A: 1, A: 2}\nname: Other\n")),
            "8:17: error: services[0].env.A: the key \"A\" is given twice; keep one\n"
            "9:1: error: name: the key \"name\" is given twice; keep one\n");
}

TEST(Hostile, KeysThatAreNoWordsAreRefused) {
  EXPECT_THAT(Report(WithService("? [a]\n: b\n")),
              StartsWith("8:3: error: a key must be a word, not a list, a mapping or nothing\n"));
  EXPECT_THAT(Report(WithService("~: b\n")),
              StartsWith("8:1: error: a key must be a word, not a list, a mapping or nothing\n"));
}

TEST(Hostile, TagsAreRefused) {
  EXPECT_THAT(Report(WithService("icon: !!python/object:os.system x\n")),
              StartsWith("8:7: error: icon: the tag "));
  EXPECT_EQ(Report(WithService("icon: !!str x\n")), "");
}

TEST(Hostile, AQuoteThatIsNotClosedIsRefused) {
  const char kMessage[] = "error: not valid YAML: the quoted text that starts here is not closed\n";
  for (const char* cut :
       {"icon: \"a\n", "icon: 'a\n", "icon: 'a''\n", "icon: \"a\\\"\n", "icon: 'a\nui: {}\n"}) {
    EXPECT_EQ(Report(WithService(cut)), std::string("8:7: ") + kMessage) << cut;
  }
  for (const char* cut : {"icon: \"a", "icon: 'a", "icon: 'a''"}) {
    EXPECT_THAT(Report(WithService(cut)),
                HasSubstr("a quoted text is not closed before the file ends"));
  }
  EXPECT_EQ(Report(WithService("icon: !!str &x 'a\n")), std::string("8:16: ") + kMessage);
  EXPECT_EQ(Report(Replaced(WithService(""), "nginx", "\"nginx")),
            std::string("7:12: ") + kMessage);
  for (const char* closed :
       {"icon: \"a\"", "icon: 'a'", "icon: 'a'''", "icon: \"a\\\\\"", "icon: a'b"}) {
    EXPECT_THAT(Report(WithService(closed)), testing::Not(HasSubstr("not closed"))) << closed;
  }
}

TEST(Hostile, ASecondDocumentIsRefused) {
  EXPECT_THAT(Report(WithService("---\nkind: other\n")),
              HasSubstr("a second document starts here"));
  EXPECT_THAT(Report("{\"kind\": \"vibe.app/v1\"} trailing"),
              HasSubstr("a second document starts here"));
}

TEST(Hostile, AFileOverTheLimitIsRefused) {
  std::string text = WithService("# ");
  text.resize(kMaxManifestBytes, 'x');
  EXPECT_TRUE(Parse(text).manifest.has_value());
  text += "x";
  EXPECT_EQ(Report(text),
            "1:1: error: the file has 1048577 bytes; a manifest has at most 1048576\n");
}

// None of these may take long, use the stack up, or be accepted.
TEST(Hostile, LargeAndDeepFilesAreRefusedInTime) {
  const std::vector<std::string> texts = {
      "a: '" + Repeated("x", 1'000'000),
      Repeated("[", 500'000),
      Repeated("{a: ", 200'000),
      Repeated("- ", 500'000),
      Repeated("? ", 500'000),
      "a: " + Repeated("[", 33) + Repeated("]", 33),
      "[" + Repeated("[],", 300'000) + "]",
      "a: [" + Repeated("1,", 500'000) + "]",
      "{" + Repeated("a,", 500'000) + "}",
      "a: \"" + Repeated("\\n", 500'000) + "\"",
      "services: [" + Repeated("{},", 100'000) + "]",
      Repeated("!", 1'000'000),
      Repeated("&a ", 300'000),
      Repeated("%TAG ! tag:x,2000:\n", 50'000) + "--- a",
      Repeated("\n", 1'000'000) + "a: b",
      "x: '" + Repeated("''", 500'000) + "'",
  };
  for (const std::string& text : texts) {
    const auto start = std::chrono::steady_clock::now();
    const ParseResult result = Parse(text);
    EXPECT_FALSE(result.manifest.has_value()) << text.substr(0, 20);
    EXPECT_FALSE(result.diagnostics.empty()) << text.substr(0, 20);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10))
        << text.substr(0, 20);
  }
}

TEST(Hostile, TheListOfErrorsIsBounded) {
  std::string text = "{";
  for (int i = 0; i < 40'000; ++i) {
    text += "servces" + std::to_string(i) + ": 1,";
  }
  const ParseResult result = Parse(text + "}");
  ASSERT_EQ(result.diagnostics.size(), 1001U);
  EXPECT_THAT(result.diagnostics.back().message, HasSubstr("39005 more problems"));
}

}  // namespace
}  // namespace vibe::manifest
