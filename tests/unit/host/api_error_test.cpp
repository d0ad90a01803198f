#include "host/api_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "host/query_reader.h"
#include "host/route.h"

namespace vibe::host {
namespace {

using ::testing::HasSubstr;

TEST(ApiError, CarriesAllThatTheStatusKnows) {
  absl::Status status =
      Error(absl::StatusCode::kFailedPrecondition, Reason::kStartFailed, "db ended");
  status = WithLog(WithService(WithAdvice(status, "look"), "db"), {"a", "b"});
  const nlohmann::json error = ErrorJson(status);
  EXPECT_EQ(error, nlohmann::json::parse(R"({"code":"FAILED_PRECONDITION","reason":"START_FAILED",
    "message":"db ended","advice":"look","service":"db","log":["a","b"]})"));
}

TEST(ApiError, HasAFittingHttpStatus) {
  EXPECT_EQ(HttpStatusOf(absl::NotFoundError("")), 404);
  EXPECT_EQ(HttpStatusOf(absl::FailedPreconditionError("")), 409);
  EXPECT_EQ(HttpStatusOf(absl::AbortedError("")), 409);
  EXPECT_EQ(HttpStatusOf(absl::UnavailableError("")), 503);
  EXPECT_EQ(HttpStatusOf(Error(absl::StatusCode::kResourceExhausted, Reason::kDiskLow, "")), 507);
  EXPECT_EQ(HttpStatusOf(absl::InternalError("")), 500);
}

TEST(ApiError, IsOneLineOfUtf8WhateverAProgramWrote) {
  const std::string text = DumpJson({{"text", "a\nb\xff"}});
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_THAT(text, HasSubstr("\xef\xbf\xbd"));
}

TEST(BodyReader, TakesWhatIsThereAndLeavesOutWhatIsNot) {
  auto body = BodyReader::Parse(R"({"a":"x","b":true,"n":7,"l":["p"],"m":{"k":"v"},"z":null})");
  ASSERT_TRUE(body.ok());
  EXPECT_EQ(body->String("a"), "x");
  EXPECT_EQ(body->Bool("b"), true);
  EXPECT_EQ(body->Number("n", 10), 7u);
  EXPECT_EQ(body->Strings("l", 1)->size(), 1u);
  EXPECT_EQ(body->StringMap("m", 1)->front().second, "v");
  EXPECT_EQ(body->String("z"), std::nullopt);
  EXPECT_EQ(body->String("absent"), std::nullopt);
  EXPECT_TRUE(body->Finish().ok());
}

TEST(BodyReader, NamesTheWrongOrUnknownMember) {
  auto wrong = BodyReader::Parse(R"({"n":11})");
  wrong->Number("n", 10);
  EXPECT_THAT(std::string(wrong->Finish().message()), HasSubstr("n must be"));
  auto unknown = BodyReader::Parse(R"({"decision":1})");
  EXPECT_THAT(std::string(unknown->Finish().message()), HasSubstr("decision"));
}

TEST(BodyReader, RefusesWhatIsNoObject) {
  EXPECT_TRUE(BodyReader::Parse("").ok());
  for (const char* text : {"[]", "7", "{", "{}{}", "\xff"}) {
    EXPECT_FALSE(BodyReader::Parse(text).ok()) << text;
  }
  EXPECT_FALSE(BodyReader::Parse("{\"a\":" + std::string(100000, '[')).ok());
}

TEST(QueryReader, DecodesAndChecks) {
  auto query = QueryReader::Parse("follow=true&tail=5&service=a%2Fb+c");
  ASSERT_TRUE(query.ok());
  EXPECT_EQ(query->Bool("follow"), true);
  EXPECT_EQ(query->Number("tail", 10), 5u);
  EXPECT_EQ(query->String("service"), "a/b c");
  EXPECT_TRUE(query->Finish().ok());
  EXPECT_FALSE(QueryReader::Parse("a=1&a=2").ok());
  EXPECT_FALSE(QueryReader::Parse("a=%0").ok());
  EXPECT_FALSE(QueryReader::Parse("a=%00").ok());
  EXPECT_FALSE(QueryReader::Parse("nope=1")->Finish().ok());
  auto wrong = QueryReader::Parse("tail=-1");
  wrong->Number("tail", 10);
  EXPECT_FALSE(wrong->Finish().ok());
}

TEST(MatchPath, TakesNamesOutOfThePath) {
  EXPECT_EQ(MatchPath("/v1/projects/{ref}/logs", "/v1/projects/a%20b/logs")->at("ref"), "a b");
  EXPECT_EQ(MatchPath("/v1/projects/{ref}", "/v1/projects/a%2Fb")->at("ref"), "a/b");
  EXPECT_FALSE(MatchPath("/v1/projects/{ref}", "/v1/projects/"));
  EXPECT_FALSE(MatchPath("/v1/projects/{ref}", "/v1/projects"));
  EXPECT_FALSE(MatchPath("/v1/projects", "/v1/projects/"));
}

}  // namespace
}  // namespace vibe::host
