#include "state/disk_reserve.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "btrfs_image.h"

namespace vibe::state {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kMiB = uint64_t{1} << 20;

class DiskReserveTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(KeepReserve(image_.root()).ok()); }

  uint64_t Missing() {
    return MissingReserve(image_.root(), GetFilesystemSpace(image_.fd()).value());
  }

  UniqueFd Create(const std::string& name) {
    return UniqueFd(
        ::open((image_.root() / name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  }

  // What the supervisor does for each of its records: a new file, on the disk, in the old one's
  // place.
  ::testing::AssertionResult CanWork() {
    const fs::path temporary = image_.root() / "record.new";
    const auto failed = [&](const char* step) {
      const int error = errno;
      ::unlink(temporary.c_str());
      return ::testing::AssertionFailure() << step << ": " << std::strerror(error);
    };
    const UniqueFd file = Create("record.new");
    const std::string text(8000, 'r');
    if (!file.valid()) {
      return failed("make");
    }
    if (::write(file.get(), text.data(), text.size()) != 8000) {
      return failed("write");
    }
    if (::fsync(file.get()) != 0) {
      return failed("sync");
    }
    if (::rename(temporary.c_str(), (image_.root() / "record").c_str()) != 0) {
      return failed("rename");
    }
    return CommitFilesystem(image_.fd()).ok() ? ::testing::AssertionSuccess() : failed("commit");
  }

  void FillData() {
    const UniqueFd file = Create("filler");
    const std::string block(kMiB, 'x');
    for (size_t size = block.size(); size >= 4096; size /= 2) {
      while (::write(file.get(), block.data(), size) > 0) {
      }
      ASSERT_EQ(errno, ENOSPC);
      CommitFilesystem(image_.fd()).IgnoreError();
    }
  }

  BtrfsImage image_{512 * kMiB};
};

TEST_F(DiskReserveTest, GivesRoomOnADiskThatIsFullAndTakesItBack) {
  EXPECT_EQ(Missing(), 0u);
  FillData();
  EXPECT_FALSE(*HasWorkingRoom(image_.root()));
  EXPECT_FALSE(CanWork()) << "the disk is not full: the test shows nothing";
  for (int part = 0; part < kReserveParts; ++part) {
    ASSERT_TRUE(*YieldReserve(image_.root()));
    EXPECT_TRUE(CanWork()) << "part " << part << " is no room";
    FillData();  // the app goes on
  }
  EXPECT_FALSE(*YieldReserve(image_.root())) << "more than there was";
  EXPECT_TRUE(KeepReserve(image_.root()).ok());
  EXPECT_EQ(Missing(), 16 * kMiB);
  EXPECT_FALSE(*HasWorkingRoom(image_.root()));
  ASSERT_EQ(::unlink((image_.root() / "filler").c_str()), 0);
  ASSERT_TRUE(CommitFilesystem(image_.fd()).ok());
  EXPECT_TRUE(KeepReserve(image_.root()).ok());
  EXPECT_EQ(Missing(), 0u);
  FillData();
  ASSERT_TRUE(*YieldReserve(image_.root()));
  EXPECT_TRUE(CanWork()) << "what was taken back is no room";
}

TEST_F(DiskReserveTest, GivesRoomForRecordsToo) {
  FillData();  // so that the records cannot grow into what is data's
  const std::string filling(16'000, 'r');
  for (int file = 0; errno != ENOSPC || file == 0; ++file) {
    const UniqueFd fd = Create(absl::StrCat("records", file));
    errno = 0;
    for (int i = 0; i < 200 && fd.valid() &&
                    ::fsetxattr(fd.get(), absl::StrCat("user.", i).c_str(), filling.data(),
                                filling.size(), 0) == 0;
         ++i) {
    }
    if (!fd.valid()) {
      break;
    }
  }
  CommitFilesystem(image_.fd()).IgnoreError();
  EXPECT_FALSE(*HasWorkingRoom(image_.root()));
  EXPECT_FALSE(CanWork()) << "the disk is not full: the test shows nothing";
  ASSERT_TRUE(*YieldReserve(image_.root()));
  EXPECT_TRUE(CanWork());
}

TEST_F(DiskReserveTest, APartThatIsHalfMadeIsMadeAnew) {
  const std::string part = image_.root() / "reserve/0";
  ASSERT_EQ(::truncate(part.c_str(), 4096), 0);
  EXPECT_GT(Missing(), 0u);
  EXPECT_TRUE(KeepReserve(image_.root()).ok());
  EXPECT_EQ(Missing(), 0u);
}

// statfs takes what waits in memory for free.
TEST_F(DiskReserveTest, WhatIsNotWrittenOutYetIsNotFree) {
  const uint64_t before = GetFilesystemSpace(image_.fd())->available;
  const UniqueFd file = Create("unwritten");
  const std::string block(kMiB, 'x');
  for (int i = 0; i < 64; ++i) {
    ASSERT_EQ(::write(file.get(), block.data(), block.size()), static_cast<ssize_t>(block.size()));
  }
  EXPECT_LE(GetFilesystemSpace(image_.fd())->available, before - 60 * kMiB);
}

}  // namespace
}  // namespace vibe::state
