#include "relay/relay.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "relays.h"
#include "socket_pairs.h"

namespace vibe::relay {
namespace {

class RelayTest : public Relays {
 protected:
  // Ties the second ends of both pairs together; returns the context that runs the relay.
  boost::asio::io_context& Join(FdPair& left, FdPair& right, EndRelay* end = nullptr) {
    auto& context = threads_.Next();
    boost::asio::post(
        context, [this, &context, end, a = std::make_shared<UniqueFd>(std::move(left.second)),
                  b = std::make_shared<UniqueFd>(std::move(right.second))] {
          EndRelay started =
              StartRelay(context, std::move(*a), std::move(*b), traffic_, [this] { ++done_; });
          if (end != nullptr) {
            *end = std::move(started);
          }
        });
    return context;
  }
};

TEST_F(RelayTest, HalfCloseReachesTheOtherSideAndTheAnswerStillComesBack) {
  FdPair client = TcpPair();
  FdPair server = UnixPair();
  Join(client, server);
  Send(client.first.get(), "question");
  ::shutdown(client.first.get(), SHUT_WR);
  EXPECT_EQ(Receive(server.first.get(), 100), "question");
  EXPECT_EQ(HowItEnds(server.first.get()), 0);
  EXPECT_EQ(done_, 0) << "the answer's direction was closed as well";
  Send(server.first.get(), "answer");
  ::shutdown(server.first.get(), SHUT_WR);
  EXPECT_EQ(Receive(client.first.get(), 100), "answer");
  EXPECT_EQ(HowItEnds(client.first.get()), 0);
  EXPECT_TRUE(WaitUntilDone(1));
  EXPECT_EQ(traffic_->from_a, sizeof "question" - 1);
  EXPECT_EQ(traffic_->from_b, sizeof "answer" - 1);
}

TEST_F(RelayTest, ResetOfTheClientResetsTheServer) {
  FdPair client = TcpPair();
  FdPair server = TcpPair();
  Join(client, server);
  Send(client.first.get(), "x");
  EXPECT_EQ(Receive(server.first.get(), 1), "x");
  ResetAndClose(std::move(client.first));
  EXPECT_EQ(HowItEnds(server.first.get()), ECONNRESET);
  EXPECT_TRUE(WaitUntilDone(1));
}

TEST_F(RelayTest, EndingItResetsBothSides) {
  FdPair client = TcpPair();
  FdPair server = TcpPair();
  EndRelay end;
  boost::asio::io_context& context = Join(client, server, &end);
  Send(client.first.get(), "x");
  EXPECT_EQ(Receive(server.first.get(), 1), "x");
  boost::asio::post(context, [&] { end(); });
  EXPECT_EQ(HowItEnds(client.first.get()), ECONNRESET);
  EXPECT_EQ(HowItEnds(server.first.get()), ECONNRESET);
  EXPECT_TRUE(WaitUntilDone(1));
  boost::asio::post(context, [&] {
    end();  // there is nothing left to end
    ++done_;
  });
  EXPECT_TRUE(WaitUntilDone(2));
}

#ifdef __linux__
TEST_F(RelayTest, DeathOfAUnixPeerResetsTheTcpSide) {
  FdPair client = TcpPair();
  FdPair server = UnixPair();
  Join(client, server);
  server.first.reset();
  EXPECT_EQ(HowItEnds(client.first.get()), ECONNRESET);
  EXPECT_TRUE(WaitUntilDone(1));
}

TEST_F(RelayTest, ResetIsSeenWhileTheOtherSideDoesNotRead) {
  FdPair client = TcpPair();
  FdPair server = UnixPair();
  Join(client, server);
  ::fcntl(client.first.get(), F_SETFL, O_NONBLOCK);
  const std::string block(64 << 10, 'x');
  while (WaitFor(client.first.get(), POLLOUT, 300)) {
    ::send(client.first.get(), block.data(), block.size(), MSG_NOSIGNAL);
  }
  ResetAndClose(std::move(client.first));
  EXPECT_TRUE(WaitUntilDone(1)) << "the connection would be held for ever";
}

TEST_F(RelayTest, ResetAfterHalfCloseIsSeen) {
  FdPair client = TcpPair();
  FdPair server = TcpPair();
  Join(client, server);
  ::shutdown(client.first.get(), SHUT_WR);
  EXPECT_EQ(HowItEnds(server.first.get()), 0);
  ResetAndClose(std::move(client.first));
  EXPECT_TRUE(WaitUntilDone(1));
}
#endif

TEST_F(RelayTest, BigTransfersArriveWholeInBothDirectionsAtOnce) {
  constexpr size_t kSize = 64 << 20;
  FdPair client = TcpPair();
  FdPair server = UnixPair();
  Join(client, server);
  std::string data(kSize, '\0');
  for (size_t i = 0; i < kSize; ++i) {
    data[i] = static_cast<char>(i * 2654435761U >> 13);
  }
  const auto send = [&](int fd) {
    for (size_t sent = 0; sent < kSize;) {
      const ssize_t count = ::send(fd, data.data() + sent, kSize - sent, MSG_NOSIGNAL);
      ASSERT_GT(count, 0);
      sent += static_cast<size_t>(count);
    }
    ::shutdown(fd, SHUT_WR);
  };
  std::string from_server;
  std::thread up([&] { send(client.first.get()); });
  std::thread down([&] { send(server.first.get()); });
  std::thread reader([&] { from_server = Receive(client.first.get(), kSize + 1); });
  const std::string from_client = Receive(server.first.get(), kSize + 1);
  up.join();
  down.join();
  reader.join();
  EXPECT_TRUE(from_client == data) << "bytes were lost or changed on the way up";
  EXPECT_TRUE(from_server == data) << "bytes were lost or changed on the way down";
  EXPECT_TRUE(WaitUntilDone(1));
}

TEST_F(RelayTest, PeerThatNeverReadsStopsTheSender) {
  FdPair client = UnixPair();
  FdPair server = UnixPair();
  Join(client, server);
  ::fcntl(client.first.get(), F_SETFL, O_NONBLOCK);
  const std::string block(64 << 10, 'x');
  size_t sent = 0;
  while (WaitFor(client.first.get(), POLLOUT, 300) && sent < (size_t{64} << 20)) {
    const ssize_t count = ::send(client.first.get(), block.data(), block.size(), MSG_NOSIGNAL);
    sent += count > 0 ? static_cast<size_t>(count) : 0;
  }
  EXPECT_LT(sent, size_t{8} << 20) << "bytes pile up in memory";
  EXPECT_EQ(Receive(server.first.get(), sent).size(), sent) << "what was taken must arrive";
}

TEST_F(RelayTest, ThousandIdlePairsDoNotDisturbOne) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  constexpr int kPairs = 1000;
  std::vector<FdPair> kept;
  for (int i = 0; i < kPairs; ++i) {
    FdPair left = UnixPair();
    FdPair right = UnixPair();
    ASSERT_TRUE(right.first.valid());
    Join(left, right);
    kept.emplace_back(std::move(left.first), std::move(right.first));
  }
  for (const size_t index : {0, 500, 999}) {
    const FdPair& pair = kept[index];
    Send(pair.first.get(), "ping");
    EXPECT_EQ(Receive(pair.second.get(), 4), "ping");
  }
  kept.clear();
  EXPECT_TRUE(WaitUntilDone(kPairs));
}

}  // namespace
}  // namespace vibe::relay
