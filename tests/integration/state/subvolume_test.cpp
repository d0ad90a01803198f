#include "state/subvolume.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "btrfs_image.h"

namespace vibe::state {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;
using ::testing::SizeIs;

void Write(const fs::path& path, absl::string_view content) {
  std::ofstream(path) << content;
}

std::string Read(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class SubvolumeTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { image_ = new BtrfsImage(); }
  static void TearDownTestSuite() { delete std::exchange(image_, nullptr); }

  SubvolumeTest() {
    root_ = image_->root() / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::create_directories(root_);
    fd_.reset(::open(root_.c_str(), O_RDONLY | O_DIRECTORY));
  }

  int at() const { return fd_.get(); }

  static inline BtrfsImage* image_ = nullptr;
  fs::path root_;
  UniqueFd fd_;
};

TEST_F(SubvolumeTest, IsToldFromAFolder) {
  ASSERT_TRUE(CreateSubvolume(at(), "sub").ok());
  fs::create_directory(root_ / "folder");
  fs::create_symlink("sub", root_ / "link");
  EXPECT_TRUE(*IsSubvolume(at(), "sub"));
  EXPECT_FALSE(*IsSubvolume(at(), "folder"));
  EXPECT_FALSE(*IsSubvolume(at(), "link"));
  EXPECT_TRUE(absl::IsNotFound(IsSubvolume(at(), "none").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenSubvolume(at(), "folder").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenSubvolume(at(), "link").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(DestroySubvolume(at(), "folder")));
}

TEST_F(SubvolumeTest, BadNamesAreRefused) {
  for (const std::string name : {"", ".", "..", "a/b", "../x"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CreateSubvolume(at(), name))) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(DestroySubvolume(at(), name))) << name;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(CreateSubvolume(at(), std::string(256, 'x'))));
  EXPECT_TRUE(absl::IsInvalidArgument(CreateSubvolume(at(), absl::string_view("a\0b", 3))));
  EXPECT_TRUE(CreateSubvolume(at(), std::string(255, 'x')).ok());
}

TEST_F(SubvolumeTest, ASnapshotHasTheFilesOfItsInstantAndKnowsItsParent) {
  ASSERT_TRUE(CreateSubvolume(at(), "sub").ok());
  Write(root_ / "sub/f", "before");
  const UniqueFd sub = OpenSubvolume(at(), "sub").value();
  ASSERT_TRUE(SnapshotSubvolume(sub.get(), at(), "snap", SnapshotMode::kReadOnly).ok());
  Write(root_ / "sub/f", "after");
  EXPECT_EQ(Read(root_ / "snap/f"), "before");
  const SubvolumeInfo info = GetSubvolumeInfo(OpenSubvolume(at(), "snap")->get()).value();
  EXPECT_EQ(info.parent_uuid, GetSubvolumeInfo(sub.get())->uuid);
  EXPECT_TRUE(info.read_only);
  EXPECT_THAT(info.uuid, SizeIs(36));
  EXPECT_TRUE(
      absl::IsAlreadyExists(SnapshotSubvolume(sub.get(), at(), "snap", SnapshotMode::kReadOnly)));
  EXPECT_EQ(::open((root_ / "snap/g").c_str(), O_CREAT | O_WRONLY, 0600), -1);
  EXPECT_EQ(errno, EROFS);
}

TEST_F(SubvolumeTest, ReadOnlyCanBeChanged) {
  ASSERT_TRUE(CreateSubvolume(at(), "sub").ok());
  const UniqueFd sub = OpenSubvolume(at(), "sub").value();
  ASSERT_TRUE(SetReadOnly(sub.get(), true).ok());
  EXPECT_TRUE(GetSubvolumeInfo(sub.get())->read_only);
  ASSERT_TRUE(SetReadOnly(sub.get(), false).ok());
  Write(root_ / "sub/f", "x");
  EXPECT_EQ(Read(root_ / "sub/f"), "x");
}

// An app may make subvolumes in its volume, deep inside, and whatever it calls them.
TEST_F(SubvolumeTest, NestedOnesAreFoundAndGoWithTheirParent) {
  ASSERT_TRUE(CreateSubvolume(at(), "sub").ok());
  fs::create_directories(root_ / "sub/a/b");
  const UniqueFd deep(::open((root_ / "sub/a/b").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_TRUE(CreateSubvolume(deep.get(), "inner").ok());
  const UniqueFd inner(::open((root_ / "sub/a/b/inner").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_TRUE(CreateSubvolume(inner.get(), "innermost").ok());
  Write(root_ / "sub/a/b/inner/innermost/f", "x");
  const UniqueFd sub = OpenSubvolume(at(), "sub").value();
  const auto nested = ListNestedSubvolumes(sub.get(), 10).value();
  ASSERT_THAT(nested, SizeIs(1));
  EXPECT_EQ(nested[0].name, "inner");
  EXPECT_THAT(ListNestedSubvolumes(OpenSubvolume(at(), "sub")->get(), 0).value(), IsEmpty());
  ASSERT_TRUE(SetReadOnly(sub.get(), true).ok());
  EXPECT_TRUE(DestroySubvolume(at(), "sub").ok()) << DestroySubvolume(at(), "sub");
  EXPECT_FALSE(fs::exists(root_ / "sub"));
}

TEST_F(SubvolumeTest, ManyNestedOnesAreListed) {
  ASSERT_TRUE(CreateSubvolume(at(), "sub").ok());
  const UniqueFd sub = OpenSubvolume(at(), "sub").value();
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(CreateSubvolume(sub.get(), "a-rather-long-name-" + std::to_string(i)).ok());
  }
  EXPECT_THAT(ListNestedSubvolumes(sub.get(), 1000).value(), SizeIs(300));
  EXPECT_THAT(ListNestedSubvolumes(sub.get(), 7).value(), SizeIs(7));
  EXPECT_TRUE(DestroySubvolume(at(), "sub").ok());
}

TEST_F(SubvolumeTest, GoesWhileFilesInItAreOpenAndMounted) {
  ASSERT_TRUE(CreateSubvolume(at(), "sub").ok());
  fs::create_directories(root_ / "sub/volume");
  Write(root_ / "sub/volume/f", "still here");
  fs::create_directories(root_ / "mountpoint");
  ASSERT_EQ(::mount((root_ / "sub/volume").c_str(), (root_ / "mountpoint").c_str(), nullptr,
                    MS_BIND, nullptr),
            0);
  UniqueFd file(::open((root_ / "mountpoint/f").c_str(), O_RDONLY));
  EXPECT_TRUE(DestroySubvolume(at(), "sub").ok());
  char content[16] = {};
  EXPECT_EQ(::pread(file.get(), content, sizeof content, 0), 10);
  EXPECT_STREQ(content, "still here");
  file.reset();
  EXPECT_EQ(::umount((root_ / "mountpoint").c_str()), 0);
}

TEST_F(SubvolumeTest, NamesAreExchangedAcrossFolders) {
  ASSERT_TRUE(CreateSubvolume(at(), "current").ok());
  fs::create_directory(root_ / "staging");
  const UniqueFd staging(::open((root_ / "staging").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_TRUE(CreateSubvolume(staging.get(), "new").ok());
  Write(root_ / "current/f", "old");
  Write(root_ / "staging/new/f", "new");
  ASSERT_TRUE(ExchangeNames(staging.get(), "new", at(), "current").ok());
  EXPECT_EQ(Read(root_ / "current/f"), "new");
  EXPECT_EQ(Read(root_ / "staging/new/f"), "old");
  EXPECT_TRUE(*IsSubvolume(at(), "current"));
}

TEST_F(SubvolumeTest, ChangesShowInTheGeneration) {
  ASSERT_TRUE(CreateSubvolume(at(), "sub").ok());
  Write(root_ / "sub/f", "x");
  const UniqueFd sub = OpenSubvolume(at(), "sub").value();
  ASSERT_TRUE(SnapshotSubvolume(sub.get(), at(), "snap", SnapshotMode::kReadOnly).ok());
  const UniqueFd snap = OpenSubvolume(at(), "snap").value();
  const auto mark = [&] { return GetSubvolumeInfo(sub.get())->change_generation; };
  EXPECT_EQ(mark(), GetSubvolumeInfo(snap.get())->change_generation);
  ASSERT_TRUE(CommitFilesystem(at()).ok());
  EXPECT_EQ(Read(root_ / "sub/f"), "x");
  EXPECT_EQ(mark(), GetSubvolumeInfo(snap.get())->change_generation) << "nothing was changed";
  Write(root_ / "sub/f", "y");
  EXPECT_GT(mark(), GetSubvolumeInfo(snap.get())->change_generation);
}

TEST_F(SubvolumeTest, SpaceIsToldWithWhatMetadataHas) {
  const FilesystemSpace space = GetFilesystemSpace(at()).value();
  EXPECT_EQ(space.total, 512ULL << 20);
  EXPECT_GT(space.available, 100ULL << 20);
  EXPECT_LT(space.available, space.total);
  EXPECT_GT(space.metadata_total, 0u);
  EXPECT_GT(space.metadata_used, 0u);
  EXPECT_LT(space.unallocated, space.total);
  EXPECT_GT(space.MetadataAvailable(), 10ULL << 20);
}

TEST(NotBtrfs, IsRefused) {
  const UniqueFd tmp(::open("/dev/shm", O_RDONLY | O_DIRECTORY));
  EXPECT_FALSE(CreateSubvolume(tmp.get(), "vibe-no-subvolume").ok());
  EXPECT_TRUE(GetFilesystemSpace(tmp.get()).ok());
}

}  // namespace
}  // namespace vibe::state
