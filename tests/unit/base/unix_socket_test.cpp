#include "base/unix_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <fstream>

#include "base/status.h"
#include "temporary_directory.h"

namespace vibe {
namespace {

using testing::HasSubstr;

class UnixSocket : public testing::Test {
 protected:
  const TemporaryDirectory directory_;
  const std::filesystem::path path_ = directory_.path() / "socket";
};

TEST_F(UnixSocket, ConnectsTwoEnds) {
  const auto listener = ListenUnix(path_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U) << "another user could give orders";
  const auto client = ConnectUnix(path_);
  ASSERT_TRUE(client.ok()) << client.status();
  const UniqueFd server(::accept(listener->get(), nullptr, nullptr));
  ASSERT_TRUE(server.valid());
  ASSERT_EQ(::send(client->get(), "ping", 4, 0), 4);
  char buffer[8];
  ASSERT_EQ(::recv(server.get(), buffer, sizeof buffer, 0), 4);
  EXPECT_EQ(std::string(buffer, 4), "ping");
}

TEST_F(UnixSocket, HasOneListener) {
  const auto listener = ListenUnix(path_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_TRUE(absl::IsAlreadyExists(ListenUnix(path_).status()));
  EXPECT_TRUE(ConnectUnix(path_).ok()) << "the first one must not be disturbed";
}

TEST_F(UnixSocket, TakesThePlaceOfADeadOne) {
  ListenUnix(path_).value().reset();
  ASSERT_TRUE(std::filesystem::exists(path_));
  EXPECT_TRUE(absl::IsUnavailable(ConnectUnix(path_).status()));
  EXPECT_TRUE(ListenUnix(path_).ok());
}

TEST_F(UnixSocket, IsUnavailableWhenThereIsNone) {
  EXPECT_TRUE(absl::IsUnavailable(ConnectUnix(path_).status()));
}

TEST_F(UnixSocket, LeavesAFileThatIsNoSocketAlone) {
  std::ofstream(path_) << "precious";
  EXPECT_FALSE(ListenUnix(path_).ok());
  std::string content;
  std::ifstream(path_) >> content;
  EXPECT_EQ(content, "precious");
}

TEST_F(UnixSocket, SaysWhatToDoAboutALongPath) {
  const std::filesystem::path path = directory_.path() / std::string(120, 'x');
  for (const absl::Status& status : {ListenUnix(path).status(), ConnectUnix(path).status()}) {
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(AdviceOf(status), HasSubstr("shorter path"));
  }
}

}  // namespace
}  // namespace vibe
