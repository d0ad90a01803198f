#include "supervisor/tar_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "../base/temporary_directory.h"
#include "base/file.h"
#include "base/subprocess.h"

namespace vibe::supervisor {
namespace {

TEST(WriteTar, TarReadsIt) {
  const TemporaryDirectory directory;
  const std::filesystem::path folder = directory.path() / "folder", out = directory.path() / "out";
  ASSERT_TRUE(MakeDirectories(folder).ok());
  ASSERT_TRUE(MakeDirectories(out).ok());
  const std::string large(1'234'567, 'x');
  ASSERT_TRUE(ReplaceFile(folder / "empty", "").ok());
  ASSERT_TRUE(ReplaceFile(folder / "block", std::string(512, 'b')).ok());
  ASSERT_TRUE(ReplaceFile(folder / "large", large).ok());
  const std::filesystem::path tar = directory.path() / "x.tar";
  const absl::Status status = WriteTar(folder, tar);
  ASSERT_TRUE(status.ok()) << status;
  const auto run = RunSubprocess({.args = {"tar", "-xf", tar.string(), "-C", out.string()}});
  ASSERT_TRUE(run.ok()) << run.status();
  ASSERT_EQ(run->exit_code, 0) << run->err;
  EXPECT_EQ(ReadFile(out / "empty", 10).value(), "");
  EXPECT_EQ(ReadFile(out / "block", 1000).value(), std::string(512, 'b'));
  EXPECT_EQ(ReadFile(out / "large", 10 << 20).value(), large);
}

TEST(ReadTar, GivesBackWhatWasWrittenAndRefusesTheRest) {
  const TemporaryDirectory directory;
  const std::filesystem::path folder = directory.path() / "folder", out = directory.path() / "out";
  ASSERT_TRUE(MakeDirectories(folder).ok());
  ASSERT_TRUE(MakeDirectories(out).ok());
  ASSERT_TRUE(ReplaceFile(folder / "a", std::string(700, 'a')).ok());
  ASSERT_TRUE(ReplaceFile(folder / "b", "").ok());
  const std::filesystem::path tar = directory.path() / "x.tar";
  ASSERT_TRUE(WriteTar(folder, tar).ok());
  const absl::Status status = ReadTar(tar, out);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(ReadFile(out / "a", 1000).value(), std::string(700, 'a'));
  EXPECT_EQ(ReadFile(out / "b", 1000).value(), "");
  EXPECT_FALSE(ReadTar(tar, out).ok()) << "a file that is there was written over";

  std::string text = ReadFile(tar, 10 << 20).value();
  for (const char* name : {"../evil", "/evil", ".."}) {
    std::string evil = text;
    evil.replace(0, 8, std::string(name).append(8 - std::string(name).size(), '\0'));
    ASSERT_TRUE(ReplaceFile(tar, evil).ok());
    const std::filesystem::path target = directory.path() / "target";
    ASSERT_TRUE(MakeDirectories(target).ok());
    EXPECT_FALSE(ReadTar(tar, target).ok()) << name;
  }
  ASSERT_TRUE(ReplaceFile(tar, text.substr(0, 800)).ok());
  const std::filesystem::path half = directory.path() / "half";
  ASSERT_TRUE(MakeDirectories(half).ok());
  EXPECT_FALSE(ReadTar(tar, half).ok()) << "half a dump passed for a whole one";
}

TEST(WriteTar, FollowsNoLinkThatAnAppMade) {
  const TemporaryDirectory directory;
  const std::filesystem::path folder = directory.path() / "folder";
  ASSERT_TRUE(MakeDirectories(folder).ok());
  ASSERT_EQ(::symlink("/etc/shadow", (folder / "0.dump").c_str()), 0);
  EXPECT_FALSE(WriteTar(folder, directory.path() / "x.tar").ok());
}

}  // namespace
}  // namespace vibe::supervisor
