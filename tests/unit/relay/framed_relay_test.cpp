#include "relay/framed_relay.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/post.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "relay/frame.h"
#include "relays.h"
#include "socket_pairs.h"

namespace vibe::relay {
namespace {

using std::string_literals::operator""s;

std::string Frame(FrameKind kind, size_t count, const std::string& payload = "") {
  std::string frame(kFrameHeaderBytes, '\0');
  WriteFrameHeader(kind, count, frame.data());
  return frame + payload;
}

std::string Data(const std::string& payload) {
  return Frame(FrameKind::kData, payload.size(), payload);
}

// Sends until nothing more is taken; returns how much was.
size_t SendAll(int fd) {
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  const std::string block(64 << 10, 'x');
  size_t sent = 0;
  while (WaitFor(fd, POLLOUT, 300) && sent < (size_t{64} << 20)) {
    const ssize_t count = ::send(fd, block.data(), block.size(), MSG_NOSIGNAL);
    sent += count > 0 ? static_cast<size_t>(count) : 0;
  }
  return sent;
}

class FramedRelayTest : public Relays {
 protected:
  void Start(UniqueFd socket, UniqueFd stream, std::shared_ptr<Traffic> traffic = nullptr) {
    auto& context = threads_.Next();
    boost::asio::post(context, [this, &context, traffic = std::move(traffic),
                                a = std::make_shared<UniqueFd>(std::move(socket)),
                                b = std::make_shared<UniqueFd>(std::move(stream))] {
      StartFramedRelay(context, std::move(*a), std::move(*b), traffic, [this] { ++done_; });
    });
  }
};

// ---- two of them, and what is between

enum class Between { kUnix, kTcp, kKnowsNoHalf };

// Passes bytes on both ways, and ends both with the first, as vhost-device-vsock does.
void PassOn(UniqueFd left, UniqueFd right) {
  const std::array<int, 2> fds = {left.get(), right.get()};
  std::string block(64 << 10, '\0');
  while (true) {
    std::array<pollfd, 2> entries = {pollfd{fds[0], POLLIN, 0}, pollfd{fds[1], POLLIN, 0}};
    ::poll(entries.data(), entries.size(), -1);
    for (size_t i = 0; i < 2; ++i) {
      if (entries[i].revents == 0) {
        continue;
      }
      const ssize_t count = ::recv(fds[i], block.data(), block.size(), 0);
      if (count <= 0 ||
          ::send(fds[1 - i], block.data(), static_cast<size_t>(count), MSG_NOSIGNAL) != count) {
        return;
      }
    }
  }
}

class TwoEnds : public FramedRelayTest, public testing::WithParamInterface<Between> {
 protected:
  TwoEnds() {
    FdPair client = TcpPair(), service = TcpPair();
    FdPair stream = GetParam() == Between::kTcp ? TcpPair() : UnixPair();
    if (GetParam() == Between::kKnowsNoHalf) {
      FdPair other = UnixPair();
      between_ = std::thread(
          [left = std::make_shared<UniqueFd>(std::exchange(stream.second, std::move(other.second))),
           right = std::make_shared<UniqueFd>(std::move(other.first))] {
            PassOn(std::move(*left), std::move(*right));
          });
    }
    client_ = std::move(client.first);
    service_ = std::move(service.first);
    Start(std::move(client.second), std::move(stream.first), traffic_);
    Start(std::move(service.second), std::move(stream.second));
  }
  ~TwoEnds() override {
    client_.reset();
    service_.reset();
    EXPECT_TRUE(WaitUntilDone(2)) << "something is left of a connection whose both sides are gone";
    if (between_.joinable()) {
      between_.join();
    }
  }

  UniqueFd client_, service_;
  std::thread between_;
};

std::string NameOf(const testing::TestParamInfo<Between>& between) {
  return between.param == Between::kUnix  ? "Unix"
         : between.param == Between::kTcp ? "Tcp"
                                          : "KnowsNoHalf";
}

INSTANTIATE_TEST_SUITE_P(FramedRelay, TwoEnds,
                         testing::Values(Between::kUnix, Between::kTcp, Between::kKnowsNoHalf),
                         NameOf);

TEST_P(TwoEnds, TheWholeAnswerComesAfterTheClientsEnd) {
  Send(client_.get(), "question");
  ::shutdown(client_.get(), SHUT_WR);
  EXPECT_EQ(Receive(service_.get(), 100), "question");
  EXPECT_EQ(HowItEnds(service_.get()), 0);
  const std::string answer(3 << 20, 'a');
  std::thread sender([&] {
    Send(service_.get(), answer);
    service_.reset();
  });
  EXPECT_TRUE(Receive(client_.get(), answer.size() + 1) == answer);
  EXPECT_EQ(HowItEnds(client_.get()), 0);
  sender.join();
  EXPECT_TRUE(WaitUntilDone(2));
  EXPECT_EQ(traffic_->from_a, 8U) << "what counts is payload";
  EXPECT_EQ(traffic_->from_b, answer.size());
}

TEST_P(TwoEnds, TheClientsBytesArriveAfterTheServicesEnd) {
  Send(service_.get(), "bye");
  ::shutdown(service_.get(), SHUT_WR);
  EXPECT_EQ(Receive(client_.get(), 100), "bye");
  EXPECT_EQ(HowItEnds(client_.get()), 0);
  const std::string later(3 << 20, 'l');
  std::thread sender([&] {
    Send(client_.get(), later);
    client_.reset();
  });
  EXPECT_TRUE(Receive(service_.get(), later.size() + 1) == later);
  EXPECT_EQ(HowItEnds(service_.get()), 0);
  sender.join();
  EXPECT_TRUE(WaitUntilDone(2));
}

TEST_P(TwoEnds, ResetsArePassedOn) {
  Send(client_.get(), "x");
  EXPECT_EQ(Receive(service_.get(), 1), "x");
  ResetAndClose(std::move(client_));
  EXPECT_EQ(HowItEnds(service_.get()), ECONNRESET);
  EXPECT_TRUE(WaitUntilDone(2));
}

TEST_P(TwoEnds, AResetByTheServiceArrivesAsOne) {
  ResetAndClose(std::move(service_));
  EXPECT_EQ(HowItEnds(client_.get()), ECONNRESET);
  EXPECT_TRUE(WaitUntilDone(2));
}

#ifdef __linux__
TEST_P(TwoEnds, AResetAfterTheEndIsOne) {
  ::shutdown(client_.get(), SHUT_WR);
  EXPECT_EQ(HowItEnds(service_.get()), 0);
  ResetAndClose(std::move(client_));
  EXPECT_TRUE(WaitUntilDone(2));
  EXPECT_EQ(::send(service_.get(), "x", 1, MSG_NOSIGNAL), -1);
}

TEST_P(TwoEnds, AResetOvertakesWhatNobodyReads) {
  EXPECT_LT(SendAll(client_.get()), size_t{32} << 20) << "bytes pile up in memory";
  ResetAndClose(std::move(client_));
  EXPECT_TRUE(WaitUntilDone(2)) << "a service that hangs would hold the connection for ever";
  EXPECT_EQ(HowItEnds(service_.get()), ECONNRESET);
}
#endif

TEST_P(TwoEnds, WhoDoesNotReadStopsTheSenderAndNotTheOtherWay) {
  const size_t sent = SendAll(client_.get());
  EXPECT_LT(sent, size_t{32} << 20) << "bytes pile up in memory";
  const std::string answer(3 << 20, 'a');
  std::thread sender([&] { Send(service_.get(), answer); });
  EXPECT_TRUE(Receive(client_.get(), answer.size()) == answer);
  sender.join();
  EXPECT_EQ(Receive(service_.get(), sent).size(), sent) << "what was taken must arrive";
}

TEST_P(TwoEnds, BigTransfersArriveWholeInBothDirectionsAtOnce) {
  constexpr size_t kSize = 64 << 20;
  std::string data(kSize, '\0');
  for (size_t i = 0; i < kSize; ++i) {
    data[i] = static_cast<char>(i * 2654435761U >> 13);
  }
  const auto send = [&](int fd) {
    Send(fd, data);
    ::shutdown(fd, SHUT_WR);
  };
  std::string from_service;
  std::thread up([&] { send(client_.get()); });
  std::thread down([&] { send(service_.get()); });
  std::thread reader([&] { from_service = Receive(client_.get(), kSize + 1); });
  const std::string from_client = Receive(service_.get(), kSize + 1);
  up.join();
  down.join();
  reader.join();
  EXPECT_TRUE(from_client == data) << "bytes were lost or changed on the way up";
  EXPECT_TRUE(from_service == data) << "bytes were lost or changed on the way down";
  EXPECT_TRUE(WaitUntilDone(2));
}

// ---- one of them, and a peer that may be anybody

class OneEnd : public FramedRelayTest {
 protected:
  OneEnd() {
    FdPair client = TcpPair(), stream = UnixPair();
    client_ = std::move(client.first);
    peer_ = std::move(stream.first);
    Start(std::move(client.second), std::move(stream.second));
  }

  UniqueFd client_, peer_;
};

TEST_F(OneEnd, SpeaksInFrames) {
  Send(client_.get(), "hello");
  EXPECT_EQ(Receive(peer_.get(), 9), Data("hello"));
  ::shutdown(client_.get(), SHUT_WR);
  EXPECT_EQ(Receive(peer_.get(), 4), "\2\0\0\0"s);
  ResetAndClose(std::move(client_));
  EXPECT_EQ(Receive(peer_.get(), 4), "\3\0\0\0"s);
  EXPECT_EQ(HowItEnds(peer_.get()), 0);
  peer_.reset();
  EXPECT_TRUE(WaitUntilDone(1));
}

TEST_F(OneEnd, HearsFramesByteByByte) {
  for (const char byte : Data("hello") + Data("!") + Frame(FrameKind::kEnd, 0)) {
    Send(peer_.get(), std::string(1, byte));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(Receive(client_.get(), 10), "hello!");
  EXPECT_EQ(HowItEnds(client_.get()), 0);
}

TEST_F(OneEnd, SaysWhatWasTakenAndSendsNoMoreThanIsTaken) {
  const std::string half(kWindowBytes / 2, 'x');
  Send(peer_.get(), Data(half));
  EXPECT_TRUE(Receive(client_.get(), half.size()) == half);
  size_t taken = 0;
  while (taken < half.size()) {
    const std::string said = Receive(peer_.get(), 4);
    ASSERT_EQ(said.size(), 4U);
    ASSERT_EQ(said[0], 1);
    taken += (said[1] & 0xffUL) << 16 | (said[2] & 0xffUL) << 8 | (said[3] & 0xffUL);
  }
  EXPECT_EQ(taken, half.size());
  SendAll(client_.get());
  size_t payload = 0;
  while (WaitFor(peer_.get(), POLLIN, 300)) {
    const std::string header = Receive(peer_.get(), 4);
    const size_t count =
        (header[1] & 0xffUL) << 16 | (header[2] & 0xffUL) << 8 | (header[3] & 0xffUL);
    EXPECT_EQ(Receive(peer_.get(), count).size(), count);
    payload += count;
  }
  EXPECT_EQ(payload, kWindowBytes);
  Send(peer_.get(), Frame(FrameKind::kTaken, 10));
  EXPECT_EQ(Receive(peer_.get(), 14), Data(std::string(10, 'x')));
}

// A connection whose stream ends before both directions did is one that broke.
TEST_F(OneEnd, AStreamThatEndsTooEarlyIsAReset) {
  peer_.reset();
  EXPECT_EQ(HowItEnds(client_.get()), ECONNRESET);
  EXPECT_TRUE(WaitUntilDone(1));
}

TEST_F(OneEnd, AStreamThatEndsInAFrameIsAReset) {
  Send(peer_.get(), Frame(FrameKind::kData, 10) + "half");
  EXPECT_EQ(Receive(client_.get(), 4), "half");
  peer_.reset();
  EXPECT_EQ(HowItEnds(client_.get()), ECONNRESET);
  EXPECT_TRUE(WaitUntilDone(1));
}

TEST_F(OneEnd, AStreamThatEndsAfterOneDirectionIsAReset) {
  Send(peer_.get(), Frame(FrameKind::kEnd, 0));
  EXPECT_EQ(HowItEnds(client_.get()), 0);
  peer_.reset();
  EXPECT_TRUE(WaitUntilDone(1));
  EXPECT_EQ(::send(client_.get(), "x", 1, MSG_NOSIGNAL), -1);
}

TEST_F(OneEnd, AResetIsAnsweredByTheStreamsEnd) {
  Send(peer_.get(), Data("last") + Frame(FrameKind::kReset, 0));
  EXPECT_EQ(HowItEnds(peer_.get()), 0);
  EXPECT_EQ(HowItEnds(client_.get()), ECONNRESET);
  peer_.reset();
  EXPECT_TRUE(WaitUntilDone(1));
}

TEST_F(OneEnd, WhatIsNotReadYetOutlivesTheStream) {
  ::shutdown(client_.get(), SHUT_WR);
  EXPECT_EQ(Receive(peer_.get(), 4), "\2\0\0\0"s);
  const std::string answer(kWindowBytes, 'a');
  Send(peer_.get(), Data(answer) + Frame(FrameKind::kEnd, 0));
  peer_.reset();
  EXPECT_TRUE(Receive(client_.get(), answer.size() + 1) == answer);
  EXPECT_EQ(HowItEnds(client_.get()), 0);
  EXPECT_TRUE(WaitUntilDone(1));
}

// What no honest end says.
class Hostile : public OneEnd, public testing::WithParamInterface<std::string> {};

TEST_P(Hostile, BreaksItsOwnConnection) {
  Send(peer_.get(), GetParam());
  EXPECT_TRUE(WaitUntilDone(1));
  EXPECT_NE(HowItEnds(client_.get()), -1);
  EXPECT_EQ(::send(client_.get(), "x", 1, MSG_NOSIGNAL), -1) << "the client was not told";
}

INSTANTIATE_TEST_SUITE_P(FramedRelay, Hostile,
                         testing::Values("GET / HTTP/1.1\r\n\r\n"s, Frame(FrameKind::kData, 0),
                                         Frame(FrameKind::kData, kWindowBytes + 1),
                                         Frame(FrameKind::kTaken, 1),
                                         Frame(FrameKind::kEnd, 0) + Data("x")));

TEST_F(OneEnd, APeerThatSendsMoreThanIsTakenBreaksItsOwnConnection) {
  const std::string frame = Data(std::string(kWindowBytes, 'x'));
  ssize_t sent = 0;
  for (int i = 0; i < 400 && sent >= 0; ++i) {
    sent = ::send(peer_.get(), frame.data(), frame.size(), MSG_NOSIGNAL);
  }
  EXPECT_EQ(sent, -1) << "100 MiB are held for a client that does not read";
  EXPECT_TRUE(WaitUntilDone(1));
  EXPECT_EQ(HowItEnds(client_.get()), ECONNRESET);
}

}  // namespace
}  // namespace vibe::relay
