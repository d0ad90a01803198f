// The small grammars: names, versions, paths, durations, sizes, and what is near to what.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "manifest/diagnostics.h"
#include "manifest/names.h"
#include "manifest/nearest.h"
#include "manifest/quantity.h"
#include "manifest/utf8.h"

namespace vibe::manifest {
namespace {

TEST(AppId, IsReverseDns) {
  for (const char* good : {"com.example", "com.example.nodejs-todo", "A.b1", "a1.B-.c"}) {
    EXPECT_TRUE(IsAppId(good)) << good;
  }
  for (const char* bad : {"", "com", "com.", ".com", "com..a", "1com.a", "com.1a", "my-com.a",
                          "com.a_b", "com.é", "com.a b", "com.-a"}) {
    EXPECT_FALSE(IsAppId(bad)) << bad;
  }
}

TEST(HostName, IsOneInLowerCaseAndNoAddress) {
  const std::string label(63, 'a');
  const std::string longest = label + "." + label + "." + label + "." + label.substr(0, 61);
  for (const std::string& good :
       {std::string("a"), std::string("db"), std::string("db-1.primary_x.internal"),
        std::string("1a"), std::string("a1.0xg"), std::string("10.a"), std::string("1.2.3.4.x"),
        std::string("xn--bcher-kva.example"), label, longest}) {
    EXPECT_TRUE(IsHostName(good)) << good;
  }
  for (const std::string& bad : {std::string(),
                                 std::string("."),
                                 std::string(".a"),
                                 std::string("a."),
                                 std::string("a..b"),
                                 std::string("-a"),
                                 std::string("a-"),
                                 std::string("a.-b"),
                                 std::string("_a"),
                                 std::string("DB"),
                                 std::string("é"),
                                 std::string("a b"),
                                 std::string("a\nb"),
                                 std::string("a#b"),
                                 std::string("a/b"),
                                 std::string("::1"),
                                 std::string("fe80::1%eth0"),
                                 std::string("1"),
                                 std::string("10.64.0.2"),
                                 std::string("a.1"),
                                 std::string("0x"),
                                 std::string("0x7f000001"),
                                 std::string("10.0xa"),
                                 std::string("a\0b", 3),
                                 label + "a",
                                 longest + "a"}) {
    EXPECT_FALSE(IsHostName(bad)) << bad;
  }
}

TEST(HostName, OfTheContainerItselfIsKnown) {
  for (const char* own : {"localhost", "web.localhost", "ip6-localhost", "ip6-loopback"}) {
    EXPECT_TRUE(IsOwnHostName(own)) << own;
  }
  for (const char* other : {"", "local", "localhosts", "mylocalhost", "localhost.internal"}) {
    EXPECT_FALSE(IsOwnHostName(other)) << other;
  }
}

TEST(SemVer, IsVersionTwo) {
  for (const char* good :
       {"0.0.0", "1.2.3", "10.20.30", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-0.3.7",
        "1.0.0-x-y-z.--", "1.0.0+20130313144700", "1.0.0-beta+exp.sha.5114f85",
        "1.0.0+21AF26D3----117B344092BD", "1.0.0+001", "1.0.0-0a", "99999999999999999999.0.0"}) {
    EXPECT_TRUE(IsSemVer(good)) << good;
  }
  for (const char* bad :
       {"", "1", "1.2", "1.2.3.4", "01.2.3", "1.02.3", "1.2.03", "v1.2.3", "1.2.3-", "1.2.3+",
        "1.2.3-01", "1.2.3-a..b", "1.2.3-a_b", "1.2.3+a+b", "1.2.x", " 1.2.3", "-1.2.3"}) {
    EXPECT_FALSE(IsSemVer(bad)) << bad;
  }
}

TEST(NormalizedPath, IsAbsoluteAndStaysInside) {
  EXPECT_EQ(NormalizedPath("/a"), "/a");
  EXPECT_EQ(NormalizedPath("//a/./b///c/"), "/a/b/c");
  EXPECT_EQ(NormalizedPath("/a/..b"), "/a/..b");
  for (const char* bad : {"", "/", "//", "/.", "a", "./a", "/..", "/a/../b", "/a\nb", "~/a"}) {
    EXPECT_EQ(NormalizedPath(bad), std::nullopt) << bad;
  }
}

TEST(RelativePath, StaysInside) {
  for (const char* good : {"a", "a/b.png", "./a", "..a", "a b", "é"}) {
    EXPECT_TRUE(IsRelativePath(good)) << good;
  }
  for (const char* bad : {"", "/a", "..", "a/..", "../a", "a\\b", "https://x/y", "a\tb"}) {
    EXPECT_FALSE(IsRelativePath(bad)) << bad;
  }
}

TEST(User, IsANameOrANumber) {
  for (const char* good :
       {"root", "1000", "1000:1000", "app:staff", "www-data", "a.b", "machine$", "2147483647"}) {
    EXPECT_TRUE(IsUser(good)) << good;
  }
  for (const char* bad : {"", ":", "a:", ":a", "a:b:c", "a b", "-a", "2147483648", "$"}) {
    EXPECT_FALSE(IsUser(bad)) << bad;
  }
}

TEST(Duration, IsAsComposeWritesIt) {
  const std::vector<std::pair<const char*, int64_t>> good = {
      {"30s", 30'000}, {"1m30s", 90'000}, {"1h5m30s20ms", 3'930'020},
      {"500ms", 500},  {"1.5s", 1'500},   {"0s", 0},
      {"1500us", 2},   {"1ns", 1},        {"0.1s", 100},
      {"2µs", 1},      {"0.001s", 1},     {"24h", 86'400'000}};
  for (const auto& [text, expected] : good) {
    EXPECT_EQ(ParseDurationMs(text), expected) << text;
  }
  for (const char* bad : {"", "30", "s", "-1s", "1 s", "1s ", "1d", "1.s", ".5s", "1e3s", "1S",
                          "9999999h", "1m30", "99999999999999999999999999999999999s"}) {
    EXPECT_EQ(ParseDurationMs(bad), std::nullopt) << bad;
  }
  for (const int64_t milliseconds : {0, 1, 999, 1'000, 1'001, 86'400'000, 86'399'999}) {
    EXPECT_EQ(ParseDurationMs(DurationText(milliseconds)), milliseconds);
  }
}

TEST(Bytes, AreInPowersOf1024) {
  const std::vector<std::pair<const char*, int64_t>> good = {
      {"0", 0},          {"1048576", 1 << 20}, {"5b", 5},         {"1k", 1024},
      {"2K", 2048},      {"256m", 1 << 28},    {"64MB", 1 << 26}, {"64MiB", 1 << 26},
      {"64Mi", 1 << 26}, {"1.5g", 3LL << 29},  {"1t", 1LL << 40}, {"0.3k", 308}};
  for (const auto& [text, expected] : good) {
    EXPECT_EQ(ParseBytes(text), expected) << text;
  }
  for (const char* bad :
       {"", "m", "-1m", "1 m", "1x", "1mm", "1bb", "1e9", "9999999999t", "1mib2", "0x10"}) {
    EXPECT_EQ(ParseBytes(bad), std::nullopt) << bad;
  }
}

TEST(Whole, IsDecimalWithoutLeadingZeros) {
  EXPECT_EQ(ParseWhole("0"), 0);
  EXPECT_EQ(ParseWhole("-5"), -5);
  EXPECT_EQ(ParseWhole("9223372036854775807"), std::numeric_limits<int64_t>::max());
  for (const char* bad :
       {"", "-", "+1", "01", "1.0", "0x1", "1e3", "1_000", " 1", "9223372036854775808"}) {
    EXPECT_EQ(ParseWhole(bad), std::nullopt) << bad;
  }
}

TEST(EditDistance, CountsLettersAndSwaps) {
  EXPECT_EQ(EditDistance("", ""), 0U);
  EXPECT_EQ(EditDistance("abc", ""), 3U);
  EXPECT_EQ(EditDistance("", "abc"), 3U);
  EXPECT_EQ(EditDistance("ports", "prots"), 1U);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3U);
  EXPECT_EQ(EditDistance("image", "images"), 1U);
}

TEST(Nearest, FindsWhatWasMeant) {
  const std::vector<absl::string_view> known = {"dependsOn", "stateVolumes", "env",
                                                "ports",     "user",         "restart"};
  EXPECT_EQ(Nearest("depends_on", known), "dependsOn");
  EXPECT_EQ(Nearest("DependsON", known), "dependsOn");
  EXPECT_EQ(Nearest("stateVolume", known), "stateVolumes");
  EXPECT_EQ(Nearest("port", known), "ports");
  EXPECT_EQ(Nearest("evn", known), "env");
  EXPECT_EQ(Nearest("xyz", known), "");
  EXPECT_EQ(Nearest("", known), "");
  EXPECT_EQ(Nearest(std::string(1000, 'p'), known), "");
  EXPECT_EQ(Nearest("__", known), "");
}

TEST(Utf8, RefusesWhatIsNotWellFormed) {
  for (const char* good : {"a", "é", "€", "😀", "\xf4\x8f\xbf\xbf", "\xef\xbf\xbf"}) {
    EXPECT_EQ(DecodeUtf8(good).length, std::string(good).size()) << good;
  }
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc3", "\xe2\x82", "\xc3\x28"}) {
    EXPECT_EQ(DecodeUtf8(bad).length, 0U);
  }
  EXPECT_EQ(CountCodePoints("aé€😀"), 4U);
}

TEST(Quoted, EscapesWhatUpsetsATerminal) {
  EXPECT_EQ(Quoted("a\"b\\c"), "\"a\\\"b\\\\c\"");
  EXPECT_EQ(Quoted("\x1b[31m\n\u009b\u202e\xff"), "\"\\u001b[31m\\n\\u009b\\u202e\\xff\"");
  EXPECT_EQ(Quoted(std::string(61, 'a')), "\"" + std::string(60, 'a') + "…\"");
}

}  // namespace
}  // namespace vibe::manifest
