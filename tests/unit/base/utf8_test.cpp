#include "base/utf8.h"

#include <gtest/gtest.h>

namespace vibe {
namespace {

#define BAD "\xef\xbf\xbd"

TEST(ValidUtf8, KeepsWhatIsValid) {
  for (const std::string text : {"", "plain", "größe", "€", "\xf0\x9f\x8e\x89", "\x7f", "\xc2\x80",
                                 "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
                                 "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "\x1b[31m"}) {
    EXPECT_EQ(ValidUtf8(text), text);
  }
  const std::string nul("a\0b", 3);
  EXPECT_EQ(ValidUtf8(nul), nul);
}

TEST(ValidUtf8, ReplacesEachByteThatIsNot) {
  EXPECT_EQ(ValidUtf8("\xff"), BAD);
  EXPECT_EQ(ValidUtf8("a\x80z"), "a" BAD "z");
  EXPECT_EQ(ValidUtf8("caf\xc3"), "caf" BAD) << "cut off";
  EXPECT_EQ(ValidUtf8("\xe2\x82"), BAD BAD) << "cut off";
  EXPECT_EQ(ValidUtf8("\xe2\x82z"), BAD BAD "z");
  EXPECT_EQ(ValidUtf8("\xc0\xaf"), BAD BAD) << "overlong";
  EXPECT_EQ(ValidUtf8("\xe0\x9f\xbf"), BAD BAD BAD) << "overlong";
  EXPECT_EQ(ValidUtf8("\xf0\x8f\xbf\xbf"), BAD BAD BAD BAD) << "overlong";
  EXPECT_EQ(ValidUtf8("\xed\xa0\x80"), BAD BAD BAD) << "a surrogate";
  EXPECT_EQ(ValidUtf8("\xf4\x90\x80\x80"), BAD BAD BAD BAD) << "above U+10FFFF";
  EXPECT_EQ(ValidUtf8("\xc3\xbc\xbc"), "ü" BAD);
}

}  // namespace
}  // namespace vibe
