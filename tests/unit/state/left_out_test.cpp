#include "state/left_out.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/unique_fd.h"

namespace vibe::state {
namespace {

namespace fs = std::filesystem;

class LeftOut : public ::testing::Test {
 protected:
  LeftOut() {
    fs::create_directories(outside_);
    fs::create_directories(root_ / "in/ner");
    MakeFifo(outside_ / "fifo");
    MakeFifo(root_ / "fifo");
    MakeFifo(root_ / "in/ner/\xff\n");
    const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    (root_ / "in/socket").string().copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    std::ofstream(root_ / "in/file") << "content";
    fs::create_directory_symlink(outside_, root_ / "in/link");
    fs::create_symlink(outside_ / "fifo", root_ / "in/to-fifo");
    fd_.reset(::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  ~LeftOut() override { fs::remove_all(folder_); }

  static void MakeFifo(const fs::path& path) { EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0) << path; }
  static bool Exists(const fs::path& path) { return fs::exists(fs::symlink_status(path)); }

  void ExpectOnlyThoseGone() {
    EXPECT_FALSE(Exists(root_ / "fifo"));
    EXPECT_FALSE(Exists(root_ / "in/ner/\xff\n"));
    EXPECT_FALSE(Exists(root_ / "in/socket"));
    EXPECT_TRUE(Exists(root_ / "in/file"));
    EXPECT_TRUE(Exists(root_ / "in/link"));
    EXPECT_TRUE(Exists(root_ / "in/to-fifo"));
    EXPECT_TRUE(Exists(outside_ / "fifo")) << "a symlink was followed";
  }

  const fs::path folder_ = fs::temp_directory_path() / ("vibe-left-out-" + RandomHex(8));
  const fs::path root_ = folder_ / "root";
  const fs::path outside_ = folder_ / "outside";
  UniqueFd fd_;
};

TEST_F(LeftOut, SocketsAndFifosAreFoundWhereverTheyAre) {
  ASSERT_TRUE(RemoveLeftOut(fd_.get(), std::nullopt, {}).ok());
  ExpectOnlyThoseGone();
}

TEST_F(LeftOut, ThoseThatAreKnownGo) {
  const std::vector<std::string> known = {"fifo", "in/ner/\xff\n", "in/socket"};
  ASSERT_TRUE(RemoveLeftOut(fd_.get(), known, {}).ok());
  ExpectOnlyThoseGone();
  EXPECT_TRUE(RemoveLeftOut(fd_.get(), known, {}).ok()) << "they are gone already";
}

TEST_F(LeftOut, AListCanRemoveNothingElse) {
  EXPECT_TRUE(RemoveLeftOut(fd_.get(), {{"in/file", "in/to-fifo", "in", "no/such"}}, {}).ok());
  EXPECT_FALSE(RemoveLeftOut(fd_.get(), {{"in/link/fifo"}}, {}).ok());
  EXPECT_FALSE(RemoveLeftOut(fd_.get(), {{"../outside/fifo"}}, {}).ok());
  EXPECT_FALSE(RemoveLeftOut(fd_.get(), {{(outside_ / "fifo").string()}}, {}).ok());
  EXPECT_TRUE(Exists(outside_ / "fifo"));
  EXPECT_TRUE(Exists(root_ / "in/file"));
  EXPECT_TRUE(Exists(root_ / "in/to-fifo"));
}

TEST_F(LeftOut, ADeepTreeNeedsNoDescriptorPerFolder) {
  UniqueFd at(::open(root_.c_str(), O_RDONLY | O_DIRECTORY));
  for (int i = 0; i < 2'000; ++i) {
    ASSERT_EQ(::mkdirat(at.get(), "d", 0755), 0);
    at.reset(::openat(at.get(), "d", O_RDONLY | O_DIRECTORY));
  }
  ASSERT_EQ(::mkfifoat(at.get(), "fifo", 0600), 0);
  ASSERT_TRUE(RemoveLeftOut(fd_.get(), std::nullopt, {}).ok());
  EXPECT_NE(::faccessat(at.get(), "fifo", F_OK, AT_SYMLINK_NOFOLLOW), 0);
  ExpectOnlyThoseGone();
}

TEST_F(LeftOut, TheSearchCanBeStopped) {
  std::stop_source source;
  source.request_stop();
  EXPECT_TRUE(absl::IsCancelled(RemoveLeftOut(fd_.get(), std::nullopt, source.get_token())));
}

}  // namespace
}  // namespace vibe::state
