#include "base/sha256.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/escaping.h"
#include "base/random.h"

namespace vibe {
namespace {

// The examples of FIPS 180-2.
TEST(Sha256, IsAsStandardized) {
  EXPECT_EQ(Sha256Digest(""),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Digest("abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Digest(std::string(1'000'000, 'a')),
            "sha256:cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, IsTheSameInPieces) {
  const std::string text(
      "some\0bytes that are long enough for two blocks of the hash, or three of them.", 77);
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    Sha256 sha;
    sha.Update(text.substr(0, cut));
    Sha256 moved = std::move(sha);
    moved.Update(text.substr(cut));
    EXPECT_EQ(moved.FinishDigest(), Sha256Digest(text));
  }
  EXPECT_EQ("sha256:" + absl::BytesToHexString(Sha256Raw(text)), Sha256Digest(text));
}

TEST(Random, NamesAreOfTheirShapeAndDiffer) {
  EXPECT_EQ(RandomHex(0), "");
  EXPECT_THAT(RandomHex(6), testing::MatchesRegex("[0-9a-f]{12}"));
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    const std::string uuid = RandomUuid();
    EXPECT_THAT(uuid, testing::MatchesRegex(
                          "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
    EXPECT_TRUE(seen.insert(uuid).second);
  }
}

}  // namespace
}  // namespace vibe
