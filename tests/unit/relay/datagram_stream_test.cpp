#include "relay/datagram_stream.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "base/descriptor.h"

namespace vibe::relay {
namespace {

class DatagramStreamTest : public testing::Test {
 protected:
  DatagramStreamTest() : stream_(std::make_shared<DatagramStream>(context_)) {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    peer_.reset(fds[1]);
    stream_->Start(
        UniqueFd(fds[0]), [this](absl::string_view d) { heard_.emplace_back(d); },
        [this] { ++ended_; });
    Run();
  }
  ~DatagramStreamTest() override {
    stream_->Close();
    Run();
  }

  void Run() {
    context_.restart();
    context_.run_for(std::chrono::milliseconds(20));
  }
  void Say(const std::string& bytes) {
    ASSERT_EQ(::send(peer_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), ssize_t(bytes.size()));
    Run();
  }
  std::string Read() {
    std::string bytes(1 << 20, '\0');
    const ssize_t count = ::recv(peer_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(count > 0 ? static_cast<size_t>(count) : 0);
    return bytes;
  }

  boost::asio::io_context context_;
  std::shared_ptr<DatagramStream> stream_;
  UniqueFd peer_;
  std::vector<std::string> heard_;
  int ended_ = 0;
};

TEST_F(DatagramStreamTest, KeepsDatagramsApart) {
  EXPECT_TRUE(stream_->Send("one"));
  EXPECT_TRUE(stream_->Send(""));
  EXPECT_TRUE(stream_->Send(std::string(300, 'x')));
  Run();
  using std::string_literals::operator""s;
  EXPECT_EQ(Read(), "\0\3one\0\0\1\54"s + std::string(300, 'x'));
}

TEST_F(DatagramStreamTest, HearsDatagramsHoweverTheStreamIsCut) {
  using std::string_literals::operator""s;
  const std::string bytes = "\0\3one\0\0\0\5three"s;
  for (const char byte : bytes) {
    Say(std::string(1, byte));
  }
  EXPECT_EQ(heard_, (std::vector<std::string>{"one", "", "three"}));
  Say(bytes + bytes);
  EXPECT_EQ(heard_.size(), 9U);
}

TEST_F(DatagramStreamTest, ALengthThatNoDatagramHasEndsTheStream) {
  Say("\xff\xff");
  EXPECT_EQ(ended_, 1);
  EXPECT_TRUE(heard_.empty());
  EXPECT_FALSE(stream_->Send("x"));
}

TEST_F(DatagramStreamTest, TheOtherEndsCloseIsHeardOnce) {
  peer_.reset();
  Run();
  EXPECT_EQ(ended_, 1);
}

TEST_F(DatagramStreamTest, NothingIsCalledAfterClose) {
  stream_->Close();
  peer_.reset();
  Run();
  EXPECT_EQ(ended_, 0);
}

TEST_F(DatagramStreamTest, AnEndThatDoesNotReadCostsDatagramsAndNotMemory) {
  const std::string datagram(60'000, 'x');
  int taken = 0;
  for (int i = 0; i < 1000; ++i) {
    taken += stream_->Send(datagram) ? 1 : 0;
  }
  EXPECT_LT(taken, 50) << "datagrams pile up in memory";
  size_t whole = 0;
  for (int i = 0; i < 100; ++i) {
    whole += Read().size();
    Run();
  }
  EXPECT_EQ(whole, static_cast<size_t>(taken) * (datagram.size() + 2))
      << "those that were taken arrive whole";
}

TEST(Descriptor, ArrivesWithItsBytes) {
  int pair[2], given[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, given), 0);
  const UniqueFd left(pair[0]), right(pair[1]), kept(given[0]);
  UniqueFd passed(given[1]);
  ASSERT_EQ(SendWithDescriptor(left.get(), "FD\n", passed.get()), 3);
  passed.reset();
  char answer[3];
  UniqueFd fd;
  ASSERT_EQ(ReceiveWithDescriptor(right.get(), answer, 3, fd), 3);
  EXPECT_EQ(std::string(answer, 3), "FD\n");
  ASSERT_TRUE(fd.valid());
  ASSERT_EQ(::send(kept.get(), "x", 1, 0), 1);
  EXPECT_EQ(::recv(fd.get(), answer, 1, 0), 1);
}

}  // namespace
}  // namespace vibe::relay
