#include "base/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>

namespace vibe {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Status, CarriesItsDetails) {
  absl::Status status =
      Error(absl::StatusCode::kAborted, Reason::kStartFailed, "web ended at once");
  status = WithAdvice(status, "look at its log");
  status = WithService(status, "web");
  status = WithLog(status, {"one", "", "three"});
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(status.message(), "web ended at once");
  EXPECT_EQ(ReasonOf(status), Reason::kStartFailed);
  EXPECT_EQ(AdviceOf(status), "look at its log");
  EXPECT_EQ(ServiceOf(status), "web");
  EXPECT_THAT(LogOf(status), ElementsAre("one", "", "three"));
}

TEST(Status, KeepsTheDetailOfTheLayerNearestToTheFault) {
  absl::Status status =
      Error(absl::StatusCode::kNotFound, Reason::kImagePullFailed, "no such image");
  status = WithReason(WithService(status, "db"), Reason::kStartFailed);
  status = WithService(Annotate(status, "start"), "web");
  EXPECT_EQ(status.message(), "start: no such image");
  EXPECT_EQ(ReasonOf(status), Reason::kImagePullFailed);
  EXPECT_EQ(ServiceOf(status), "db");
}

TEST(Status, FurtherAdviceStandsBehindTheFirst) {
  const absl::Status status = AddAdvice(absl::InternalError("x"), "wait");
  EXPECT_EQ(AdviceOf(status), "wait");
  EXPECT_EQ(AdviceOf(AddAdvice(status, "or ask")), "wait; or ask");
}

TEST(Status, StaysOk) {
  const absl::Status ok;
  EXPECT_EQ(WithReason(ok, Reason::kConflict), ok);
  EXPECT_EQ(WithAdvice(ok, "x"), ok);
  EXPECT_EQ(AddAdvice(ok, "x"), ok);
  EXPECT_EQ(WithService(ok, "x"), ok);
  EXPECT_EQ(WithLog(ok, {"x"}), ok);
  EXPECT_EQ(Annotate(ok, "x"), ok);
}

TEST(Status, HasNoDetailsThatNobodyAdded) {
  const absl::Status status = WithLog(WithAdvice(absl::InternalError("x"), ""), {});
  EXPECT_EQ(ReasonOf(status), std::nullopt);
  EXPECT_THAT(AdviceOf(status), IsEmpty());
  EXPECT_THAT(ServiceOf(status), IsEmpty());
  EXPECT_THAT(LogOf(status), IsEmpty());
}

TEST(Status, NamesItsReasonsAsTheContractDoes) {
  std::set<absl::string_view> names;
  for (int i = 0; i <= static_cast<int>(Reason::kDiskLow); ++i) {
    const auto reason = static_cast<Reason>(i);
    EXPECT_EQ(ReasonFromName(ReasonName(reason)), reason) << "kReasons is not in the enum's order";
    names.insert(ReasonName(reason));
  }
  EXPECT_EQ(names.size(), 21U);
  EXPECT_EQ(ReasonName(Reason::kImagePullFailed), "IMAGE_PULL_FAILED");
  EXPECT_EQ(ReasonName(Reason::kDiskLow), "DISK_LOW");
  EXPECT_EQ(ReasonFromName("image_pull_failed"), std::nullopt);
  EXPECT_EQ(ReasonFromName(""), std::nullopt);
}

TEST(Status, NamesTheSystemsError) {
  const absl::Status status = ErrnoError(ENOSPC, "write /x");
  EXPECT_EQ(status.message(), "write /x: No space left on device");
  EXPECT_TRUE(absl::IsNotFound(ErrnoError(ENOENT, "open /x")));
}

absl::StatusOr<int> Half(int number) {
  if (number % 2 != 0) {
    return absl::InvalidArgumentError("odd");
  }
  return number / 2;
}

absl::Status Quarter(int number, std::unique_ptr<int>& result) {
  VIBE_ASSIGN_OR_RETURN(const int half, Half(number));
  VIBE_ASSIGN_OR_RETURN(const int quarter, Half(half));
  VIBE_RETURN_IF_ERROR(absl::OkStatus());
  result = std::make_unique<int>(quarter);
  return absl::OkStatus();
}

TEST(Status, IsPassedOnByTheMacros) {
  std::unique_ptr<int> result;
  EXPECT_EQ(Quarter(6, result), absl::InvalidArgumentError("odd"));
  EXPECT_EQ(result, nullptr);
  EXPECT_TRUE(Quarter(8, result).ok());
  EXPECT_EQ(*result, 2);
}

}  // namespace
}  // namespace vibe
