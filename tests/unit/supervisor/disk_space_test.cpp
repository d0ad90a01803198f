#include "supervisor/disk_space.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace vibe::supervisor {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr uint64_t kAny = std::numeric_limits<uint64_t>::max();

state::FilesystemSpace Disk(uint64_t available) {
  return {.total = 64 * kGiB,
          .available = available,
          .metadata_total = kGiB,
          .metadata_used = kGiB / 2,
          .unallocated = available};
}

TEST(LevelOf, GoesFromPlentyToLowToFull) {
  EXPECT_EQ(LevelOf(Disk(32 * kGiB), kAny), SpaceLevel::kPlenty);
  EXPECT_EQ(LevelOf(Disk(3 * kGiB), kAny), SpaceLevel::kLow);
  EXPECT_EQ(LevelOf(Disk(kGiB / 4), kAny), SpaceLevel::kFull);
  EXPECT_EQ(LevelOf(Disk(0), kAny), SpaceLevel::kFull);
}

TEST(LevelOf, TheHostsDiskCountsToo) {
  EXPECT_EQ(LevelOf(Disk(32 * kGiB), 3 * kGiB), SpaceLevel::kLow);
  EXPECT_EQ(LevelOf(Disk(32 * kGiB), kGiB / 4), SpaceLevel::kFull)
      << "the file behind the disk would get an I/O error";
}

TEST(LevelOf, MetadataCanBeFullWhileDataHasRoom) {
  state::FilesystemSpace disk = Disk(32 * kGiB);
  disk.unallocated = 0;
  disk.metadata_used = disk.metadata_total - (uint64_t{64} << 20);
  EXPECT_EQ(LevelOf(disk, kAny), SpaceLevel::kLow);
  disk.metadata_used = disk.metadata_total;
  EXPECT_EQ(LevelOf(disk, kAny), SpaceLevel::kFull);
}

TEST(LevelOf, ASmallDiskIsNotFullFromTheBeginning) {
  state::FilesystemSpace disk{.total = kGiB / 2,
                              .available = kGiB / 4,
                              .metadata_total = uint64_t{32} << 20,
                              .metadata_used = uint64_t{1} << 20,
                              .unallocated = kGiB / 4};
  EXPECT_EQ(LevelOf(disk, kAny), SpaceLevel::kPlenty);
  // A rename was seen to fail with that much left.
  disk.unallocated = 0;
  disk.metadata_used = disk.metadata_total - (uint64_t{11} << 20);
  EXPECT_EQ(LevelOf(disk, kAny), SpaceLevel::kFull);
  disk.metadata_used = disk.metadata_total - (uint64_t{20} << 20);
  EXPECT_EQ(LevelOf(disk, kAny), SpaceLevel::kLow);
}

TEST(ReportOf, SaysWhatIsLeftAndWhatToDelete) {
  using ::testing::AllOf;
  using ::testing::HasSubstr;
  using ::testing::Not;
  EXPECT_EQ(ReportOf(Disk(32 * kGiB), kAny).warning, "");
  EXPECT_EQ(ReportOf(Disk(3 * kGiB), kAny).warning,
            "the machine's disk is nearly full: 3.0 GiB left of 64.0 GiB. Remove snapshots with "
            "`vibe snapshot rm`, or projects that you no longer need with `vibe rm`; or give the "
            "machine a larger \"disk\" in machine.json");
  EXPECT_THAT(ReportOf(Disk(kGiB / 4), kAny).warning,
              AllOf(HasSubstr("256 MiB left of 64.0 GiB; apps are not opened"),
                    HasSubstr("vibe snapshot rm")));
  EXPECT_THAT(ReportOf(Disk(32 * kGiB), 3 * kGiB).warning,
              AllOf(HasSubstr("this computer's disk is nearly full: 3.0 GiB left"),
                    HasSubstr("Free space on this computer"), Not(HasSubstr("vibe rm"))));
  state::FilesystemSpace disk = Disk(32 * kGiB);
  disk.unallocated = 0;
  disk.metadata_used = disk.metadata_total - (uint64_t{64} << 20);
  EXPECT_THAT(ReportOf(disk, kAny).warning,
              HasSubstr("only 64 MiB for the file system's own records"));
}

}  // namespace
}  // namespace vibe::supervisor
