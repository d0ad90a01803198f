#include "state/intent.h"

#include <gtest/gtest.h>

#include "base/status.h"

namespace vibe::state {
namespace {

constexpr char kId[] = "01234567-89ab-4def-8123-456789abcdef";

TEST(Intent, ComesBackAsItWasWritten) {
  const absl::StatusOr<Intent> back = IntentFromJson(IntentToJson({.kind = Intent::Kind::kRestore,
                                                                   .snapshot_id = kId,
                                                                   .staged = "restore-0a",
                                                                   .current_uuid = "u"}));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->kind, Intent::Kind::kRestore);
  EXPECT_EQ(back->snapshot_id, kId);
  EXPECT_EQ(back->staged, "restore-0a");
  EXPECT_EQ(back->current_uuid, "u");
}

// What an intent names is removed: it must not be able to name anything outside staging/.
TEST(Intent, NamesNothingOutsideTheProject) {
  for (const char* staged : {"", ".", "..", "../current", "a/b", "A"}) {
    EXPECT_TRUE(absl::IsDataLoss(
        IntentFromJson(IntentToJson({Intent::Kind::kSave, kId, staged, ""})).status()))
        << staged;
  }
  EXPECT_TRUE(absl::IsDataLoss(
      IntentFromJson(IntentToJson({Intent::Kind::kDelete, "../current", "x", ""})).status()));
}

}  // namespace
}  // namespace vibe::state
