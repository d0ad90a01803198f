// What is found in an image's layers without mounting them.
#include "supervisor/rootfs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/random.h"

namespace vibe::supervisor {
namespace {

namespace fs = std::filesystem;

class Layers : public testing::Test {
 protected:
  Layers() {
    for (const std::string& layer : layers_) {
      fs::create_directories(fs::path(layer) / "etc");
    }
  }
  ~Layers() override { fs::remove_all(folder_); }

  void Write(const std::string& path, const std::string& content) {
    std::ofstream(folder_ / path) << content;
  }

  const fs::path folder_ = fs::temp_directory_path() / ("vibe-layers-" + RandomHex(8));
  const std::vector<std::string> layers_ = {folder_ / "top", folder_ / "base"};
};

TEST_F(Layers, SaySomethingWhereTheTopmostFileDoes) {
  EXPECT_FALSE(HasSettings(layers_, "/etc/host.conf"));
  Write("base/etc/host.conf", "multi on\n");
  EXPECT_TRUE(HasSettings(layers_, "/etc/host.conf"));
  Write("top/etc/host.conf", "");
  EXPECT_FALSE(HasSettings(layers_, "/etc/host.conf"));
  Write("top/etc/host.conf", "# as in Debian\n\n  #precedence ::1/128 50");
  EXPECT_FALSE(HasSettings(layers_, "/etc/host.conf"));
  Write("top/etc/host.conf", "# mine\n\tmulti off");
  EXPECT_TRUE(HasSettings(layers_, "/etc/host.conf"));
}

TEST_F(Layers, SayNothingInAFileThatTheImageRemoved) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "only root makes the mark of a removed file";
  }
  Write("base/etc/host.conf", "multi on\n");
  ASSERT_EQ(::mknod((folder_ / "top/etc/host.conf").c_str(), S_IFCHR | 0600, 0), 0);
  EXPECT_FALSE(HasSettings(layers_, "/etc/host.conf"));
}

TEST_F(Layers, KeepALinkWhereverItLeads) {
  fs::create_symlink("/etc/alternatives/host.conf", folder_ / "top/etc/host.conf");
  EXPECT_TRUE(HasSettings(layers_, "/etc/host.conf"));
}

TEST_F(Layers, ArePassedOverNeitherByALinkOutNorByAPipe) {
  Write("outside", "multi on\n");
  fs::remove(folder_ / "top/etc");
  fs::create_symlink("../..", folder_ / "top/etc");
  EXPECT_FALSE(HasSettings(layers_, "/etc/outside")) << "a link led out of its layer";
  ASSERT_EQ(::mkfifo((folder_ / "base/etc/host.conf").c_str(), 0600), 0);
  EXPECT_TRUE(HasSettings(layers_, "/etc/host.conf"));
  EXPECT_EQ(ReadImageFile(layers_, "/etc/host.conf"), "") << "reading it would wait for ever";
}

TEST_F(Layers, GiveAFoldersOwnerAndMode) {
  EXPECT_EQ(DirectoryOwnership(layers_, "/data"), std::nullopt);
  fs::create_directories(folder_ / "base/data");
  ASSERT_EQ(::chmod((folder_ / "base/data").c_str(), 01770), 0);
  const std::optional<Ownership> found = DirectoryOwnership(layers_, "/data");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->uid, ::geteuid());
  EXPECT_EQ(found->mode, 01770U);
}

}  // namespace
}  // namespace vibe::supervisor
