#include "base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "temporary_directory.h"

namespace vibe {
namespace {

class File : public testing::Test {
 protected:
  size_t Entries() const {
    const std::filesystem::directory_iterator entries(directory_.path());
    return static_cast<size_t>(std::distance(begin(entries), end(entries)));
  }
  const TemporaryDirectory directory_;
  const std::filesystem::path path_ = directory_.path() / "file";
};

TEST_F(File, IsReadWholeOrNotAtAll) {
  const std::string content("a\0b\n", 4);
  ASSERT_TRUE(ReplaceFile(path_, content).ok());
  EXPECT_EQ(ReadFile(path_, 4).value(), content);
  EXPECT_TRUE(absl::IsResourceExhausted(ReadFile(path_, 3).status()));
  EXPECT_TRUE(absl::IsNotFound(ReadFile(directory_.path() / "none", 4).status()));
  EXPECT_FALSE(ReadFile(directory_.path(), 4).ok());
}

TEST_F(File, IsReplacedWithItsModeAndNothingBeside) {
  ASSERT_TRUE(ReplaceFile(path_, "old").ok());
  ASSERT_TRUE(ReplaceFile(path_, "new", 0600).ok());
  EXPECT_EQ(ReadFile(path_, 100).value(), "new");
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U) << "a secret would be readable by others";
  EXPECT_EQ(Entries(), 1U);
}

TEST_F(File, StaysWhenItCannotBeReplaced) {
  std::filesystem::create_directory(path_);
  std::ofstream(path_ / "kept") << "x";
  EXPECT_FALSE(ReplaceFile(path_, "new").ok());
  EXPECT_EQ(Entries(), 1U) << "the temporary file is left behind";
  EXPECT_TRUE(std::filesystem::exists(path_ / "kept"));
  EXPECT_TRUE(absl::IsNotFound(ReplaceFile(directory_.path() / "none" / "file", "x")));
}

TEST_F(File, WhatAKilledWriterLeftIsRemovedAndNothingElse) {
  // A process that stops for good between the temporary file and its new name.
  const std::string content(64 << 20, 'x');
  const pid_t writer = ::fork();
  if (writer == 0) {
    (void)ReplaceFile(path_, content);
    ::_exit(0);
  }
  for (int i = 0; i < 5000 && Entries() == 0; ++i) {
    ::usleep(1000);
  }
  ::kill(writer, SIGKILL);
  ::waitpid(writer, nullptr, 0);
  ASSERT_EQ(Entries(), 1U);
  ASSERT_FALSE(std::filesystem::exists(path_)) << "the writer was quicker than its end";
  for (const char* kept : {"file.config", "file.abcdef", "unfinished"}) {
    ASSERT_TRUE(ReplaceFile(directory_.path() / kept, "kept").ok());
  }
  ASSERT_TRUE(MakeDirectories(directory_.path() / "folder.unfinished").ok());
  std::filesystem::create_symlink("file.config", directory_.path() / "link.unfinished");
  EXPECT_TRUE(RemoveUnfinished(directory_.path()).ok());
  EXPECT_EQ(Entries(), 5U);
  EXPECT_TRUE(RemoveUnfinished(directory_.path() / "none").ok());
  EXPECT_FALSE(RemoveUnfinished(directory_.path() / "file.config").ok());
}

TEST_F(File, IsNeverSeenHalfWritten) {
  const std::string a(200'000, 'a');
  const std::string b(100'000, 'b');
  ASSERT_TRUE(ReplaceFile(path_, a).ok());
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) {
      EXPECT_TRUE(ReplaceFile(path_, i % 2 == 0 ? b : a).ok());
    }
  });
  for (int i = 0; i < 300; ++i) {
    const auto content = ReadFile(path_, 1 << 20);
    EXPECT_TRUE(content.ok()) << content.status();
    EXPECT_TRUE(*content == a || *content == b) << content->size() << " bytes";
  }
  stop = true;
  writer.join();
}

TEST_F(File, DirectoriesAreMadeWithTheirParents) {
  const std::filesystem::path deep = directory_.path() / "a" / "b" / "c";
  EXPECT_TRUE(MakeDirectories(deep, 0700).ok());
  EXPECT_TRUE(MakeDirectories(deep).ok());
  EXPECT_TRUE(MakeDirectories(deep / "").ok());
  struct stat info {};
  ASSERT_EQ(::stat(deep.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
  ASSERT_TRUE(ReplaceFile(path_, "").ok());
  EXPECT_FALSE(MakeDirectories(path_).ok());
  EXPECT_FALSE(MakeDirectories(path_ / "below").ok());
  EXPECT_TRUE(SyncDirectory(deep).ok());
  EXPECT_FALSE(SyncDirectory(directory_.path() / "none").ok());
}

TEST_F(File, TreesAreRemovedWithoutFollowingLinks) {
  const std::filesystem::path tree = directory_.path() / "tree";
  ASSERT_TRUE(MakeDirectories(tree / "below").ok());
  ASSERT_TRUE(ReplaceFile(path_, "kept").ok());
  std::filesystem::create_symlink(path_, tree / "link");
  std::filesystem::create_directory_symlink(directory_.path(), tree / "below" / "up");
  EXPECT_TRUE(RemoveAll(tree).ok());
  EXPECT_TRUE(RemoveAll(tree).ok());
  EXPECT_EQ(ReadFile(path_, 100).value(), "kept");
  EXPECT_EQ(Entries(), 1U);
}

}  // namespace
}  // namespace vibe
