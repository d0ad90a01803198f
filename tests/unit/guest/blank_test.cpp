#include "init/blank.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "base/unique_fd.h"

namespace vibe::init {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// A sparse file that stands for a disk, with one mark somewhere.
class Disk {
 public:
  explicit Disk(uint64_t size) : size_(size) {
    std::string name = testing::TempDir() + "/disk-XXXXXX";
    fd_.reset(::mkstemp(name.data()));
    ::unlink(name.c_str());
    EXPECT_EQ(::ftruncate(fd_.get(), static_cast<off_t>(size)), 0);
  }
  void Mark(uint64_t offset) {
    EXPECT_EQ(::pwrite(fd_.get(), "x", 1, static_cast<off_t>(offset)), 1);
  }
  absl::StatusOr<bool> Blank() const { return IsBlank(fd_.get(), size_); }

 private:
  uint64_t size_;
  UniqueFd fd_;
};

TEST(IsBlank, ANewDiskIs) {
  for (const uint64_t size : {kMiB / 2, kMiB, 3 * kMiB, 65 * kMiB, uint64_t{300} << 30}) {
    const absl::StatusOr<bool> blank = Disk(size).Blank();
    ASSERT_TRUE(blank.ok()) << blank.status();
    EXPECT_TRUE(*blank) << size;
  }
}

TEST(IsBlank, OneByteWhereFileSystemsHaveTheirMarksIsEnough) {
  const uint64_t size = uint64_t{300} << 30;
  for (const uint64_t offset :
       {uint64_t{0}, uint64_t{510}, uint64_t{1080}, uint64_t{0x10040}, kMiB - 1, 64 * kMiB + 64,
        (uint64_t{256} << 30) + 64, size - kMiB, size - 1}) {
    Disk disk(size);
    disk.Mark(offset);
    const absl::StatusOr<bool> blank = disk.Blank();
    ASSERT_TRUE(blank.ok()) << blank.status();
    EXPECT_FALSE(*blank) << "a disk with data at " << offset << " would have been formatted";
  }
}

TEST(IsBlank, ADiskThatCannotBeReadIsAnErrorAndNotBlank) {
  EXPECT_FALSE(IsBlank(-1, kMiB).ok());
  const UniqueFd ends(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(IsBlank(ends.get(), kMiB).ok());
}

}  // namespace
}  // namespace vibe::init
