#include "cli/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/help_text.h"
#include "cli/table.h"

namespace vibe::cli {
namespace {

TEST(Escape, ShowsWhatCouldChangeTheScreen) {
  EXPECT_EQ(Escape("plain, ü and 日本"), "plain, ü and 日本");
  EXPECT_EQ(Escape("\x1b[2Jgone\r\n"), "\\x1b[2Jgone\\x0d\\x0a");
  EXPECT_EQ(Escape("a\u202Eb"), "a\\u{202e}b");
  EXPECT_EQ(Escape("\u009b1m"), "\\u{9b}1m");
  EXPECT_EQ(Escape("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(Escape("a\tb"), "a b");
  EXPECT_EQ(EscapeLines("a\nb\x07"), "a\nb\\x07");
}

TEST(Fit, CutsAtColumnsNotBytes) {
  EXPECT_EQ(Fit("notes", 5), "notes");
  EXPECT_EQ(Fit("notes", 4), "not…");
  EXPECT_EQ(Fit("日本語", 5), "日本…");
  EXPECT_EQ(Fit("x", 0), "");
  EXPECT_EQ(DisplayWidth("日本"), 4);
  EXPECT_EQ(Pad("日本", 6), "日本  ");
}

TEST(Format, ShowsSizesAndAges) {
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(27'400'000), "27.4 MB");
  EXPECT_EQ(FormatBytes(999'999), "1.0 MB");
  EXPECT_EQ(FormatAge(absl::Seconds(59)), "59s");
  EXPECT_EQ(FormatAge(absl::Hours(49)), "2d");
  EXPECT_EQ(FormatAge(-absl::Hours(1)), "0s");
}

TEST(Wrap, KeepsParagraphsAndIndents) {
  EXPECT_EQ(Wrap("one two three\n\nfour", 2, 9), "  one two\n  three\n\n  four\n");
}

TEST(RenderTable, LinesUpColumns) {
  EXPECT_EQ(RenderTable({"NAME", "URL"}, {{{"a", ""}, {"http://x", ""}}, {{"longer", ""}}}, 0),
            "NAME    URL\na       http://x\nlonger\n");
}

TEST(RenderTable, GivesWayInTheWidestColumn) {
  const std::string table =
      RenderTable({"N", "TEXT"}, {{{"a", ""}, {std::string(40, 'x'), ""}}}, 20);
  EXPECT_EQ(table, "N  TEXT\na  xxxxxxxxxxxxxxxx…\n");
}

TEST(RenderTable, ColoursOnlyWhatIsWhole) {
  const std::string table = RenderTable({"S", "T"}, {{{"ok", "\x1b[32mok\x1b[0m"}, {"t", ""}}}, 0);
  EXPECT_EQ(table, "S   T\n\x1b[32mok\x1b[0m  t\n");
}

}  // namespace
}  // namespace vibe::cli
