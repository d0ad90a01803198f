#include "rpc/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "base/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace vibe::rpc {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(RpcStatus, ComesBackAsItWasSent) {
  absl::Status sent = Error(absl::StatusCode::kUnavailable, Reason::kImagePullFailed,
                            "the registry is down: refused");
  sent = WithAdvice(sent, "try again later");
  sent = WithService(sent, "web");
  sent = WithLog(sent, {"one", "", "größe"});
  const absl::Status received = FromGrpc(ToGrpc(sent));
  EXPECT_EQ(received.code(), sent.code());
  EXPECT_EQ(received.message(), sent.message());
  EXPECT_EQ(ReasonOf(received), Reason::kImagePullFailed);
  EXPECT_EQ(AdviceOf(received), "try again later");
  EXPECT_EQ(ServiceOf(received), "web");
  EXPECT_THAT(LogOf(received), ElementsAre("one", "", "größe"));
}

TEST(RpcStatus, KeepsEveryCode) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status sent(static_cast<absl::StatusCode>(code), code == 0 ? "" : "why");
    const grpc::Status wire = ToGrpc(sent);
    EXPECT_EQ(wire.error_code(), code);
    EXPECT_EQ(FromGrpc(wire), sent);
  }
}

TEST(RpcStatus, HasNoDetailsThatNobodyAdded) {
  const absl::Status received = FromGrpc(ToGrpc(absl::InternalError("plain")));
  EXPECT_EQ(ReasonOf(received), std::nullopt);
  EXPECT_THAT(AdviceOf(received), IsEmpty());
  EXPECT_THAT(LogOf(received), IsEmpty());
}

// gRPC drops a call whose trailing metadata is over 8 KiB: the user would see that and not the
// error.
TEST(RpcStatus, FitsIntoMetadataWhateverTheLogHolds) {
  std::vector<std::string> lines;
  for (int i = 0; i < 100; ++i) {
    lines.push_back("line " + std::to_string(i) + " " + std::string(500, 'x') + "€€€");
  }
  const absl::Status sent = WithLog(absl::AbortedError("web ended at once"), lines);
  const grpc::Status wire = ToGrpc(sent);
  EXPECT_LT(wire.error_details().size(), 4U << 10);
  const std::vector<std::string> log = LogOf(FromGrpc(wire));
  ASSERT_FALSE(log.empty());
  EXPECT_EQ(log.back(), lines.back()) << "the end of the log is what tells the cause";
}

TEST(RpcStatus, SurvivesALogThatIsNotText) {
  const std::string bytes("\xff\xfe \x80 caf\xc3 \0 end", 15);
  for (const std::string& line : {bytes, std::string(10'000, '\x80') + "end"}) {
    const grpc::Status wire = ToGrpc(WithLog(WithAdvice(absl::AbortedError("why"), "do"), {line}));
    const absl::Status received = FromGrpc(wire);
    EXPECT_EQ(received.message(), "why");
    EXPECT_EQ(AdviceOf(received), "do");
    ASSERT_FALSE(LogOf(received).empty());
    EXPECT_TRUE(LogOf(received).back().ends_with("end"));
  }
}

TEST(RpcStatus, ShortensALongMessage) {
  for (const std::string piece : {"m", "ü", "\x80"}) {
    std::string text = "mmm";
    while (text.size() < 100'000) {
      text += piece;
    }
    const grpc::Status wire =
        ToGrpc(WithService(WithAdvice(WithLog(absl::AbortedError(text), {text}), text), text));
    // As gRPC writes them: percent-encoded, and base64.
    size_t wire_bytes = wire.error_details().size() * 4 / 3;
    for (const char c : wire.error_message()) {
      wire_bytes += c >= ' ' && c <= '~' && c != '%' ? 1 : 3;
    }
    EXPECT_LT(wire_bytes, 7U << 10) << "with " << piece;
    const absl::Status received = FromGrpc(wire);
    EXPECT_TRUE(absl::IsAborted(received));
    EXPECT_TRUE(absl::StartsWith(received.message(), "mmm"));
    EXPECT_TRUE(absl::EndsWith(received.message(), "..."));
    EXPECT_FALSE(AdviceOf(received).empty());
  }
}

TEST(RpcStatus, IsReadFromAnotherServerToo) {
  EXPECT_EQ(FromGrpc({grpc::StatusCode::NOT_FOUND, "gone"}), absl::NotFoundError("gone"));
  EXPECT_EQ(FromGrpc({grpc::StatusCode::NOT_FOUND, "gone", "no protobuf \xff"}),
            absl::NotFoundError("gone"));
  google::rpc::ErrorInfo info;
  info.set_domain("example.com");
  info.set_reason("DISK_LOW");
  google::rpc::Status details;
  details.add_details()->PackFrom(info);
  const absl::Status received =
      FromGrpc({grpc::StatusCode::ABORTED, "x", details.SerializeAsString()});
  EXPECT_EQ(ReasonOf(received), std::nullopt) << "a reason of another product's";
}

}  // namespace
}  // namespace vibe::rpc
