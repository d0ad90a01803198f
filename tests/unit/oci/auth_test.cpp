#include "oci/auth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace vibe::oci {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(AuthTest, ReadsChallenges) {
  const auto challenges = ParseChallenges(
      R"(Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push", Basic Realm=x)");
  ASSERT_EQ(challenges.size(), 2u);
  EXPECT_EQ(challenges[0].scheme, "bearer");
  EXPECT_EQ(challenges[0].parameters.at("realm"), "https://auth.docker.io/token");
  EXPECT_EQ(challenges[0].parameters.at("scope"), "repository:a/b:pull,push");
  EXPECT_EQ(challenges[1].scheme, "basic");
  EXPECT_EQ(challenges[1].parameters.at("realm"), "x");
}

TEST(AuthTest, ReadsEscapesAndPassesOverNonsense) {
  EXPECT_EQ(ParseChallenges(R"(Bearer realm="a\"b")")[0].parameters.at("realm"), "a\"b");
  EXPECT_TRUE(ParseChallenges("").empty());
  EXPECT_TRUE(ParseChallenges("=\"\\").empty());
  EXPECT_TRUE(ParseChallenges("realm=\"x\"").empty());
  EXPECT_LE(
      ParseChallenges(std::string(10000, 'a') + std::string(5000, ' ') + "b c d e f g h i j k")
          .size(),
      8u);
}

TEST(AuthTest, AnyHeaderIsReadToItsEnd) {
  std::mt19937 random(7);
  const std::string alphabet = "Bearer realm=\"\\,= \t\x01";
  for (int round = 0; round < 5000; ++round) {
    std::string text;
    for (int i = 0; i < 40; ++i) {
      text.push_back(alphabet[random() % alphabet.size()]);
    }
    EXPECT_LE(ParseChallenges(text).size(), 8u);
  }
}

TEST(AuthTest, ReadsTokens) {
  EXPECT_EQ(ParseToken(R"({"token":"abc"})").value(), "abc");
  EXPECT_EQ(ParseToken(R"({"access_token":"def","expires_in":300})").value(), "def");
}

TEST(AuthTest, RefusesTokensThatCouldSmuggleAHeaderAndDoesNotShowThem) {
  for (const char* text : {"", "[]", "{}", R"({"token":""})", R"({"token":5})",
                           R"({"token":"s3cret\r\nX: y"})", R"({"token":"s3cret s3cret"})"}) {
    const auto token = ParseToken(text);
    EXPECT_EQ(token.status().code(), absl::StatusCode::kDataLoss) << text;
    EXPECT_THAT(std::string(token.status().message()), Not(HasSubstr("s3cret")));
  }
}

}  // namespace
}  // namespace vibe::oci
