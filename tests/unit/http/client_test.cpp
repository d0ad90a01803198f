#include "http/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "scripted_server.h"

namespace vibe::http {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Reply;
using testing::ScriptedReply;
using testing::ScriptedServer;
using testing::SeenRequest;

constexpr Timeouts kPatient{absl::Seconds(5), absl::Seconds(10)};

std::unique_ptr<Connection> To(const ScriptedServer& server, const Timeouts& timeouts = kPatient) {
  return Connection::Connect(Endpoint::Tcp("127.0.0.1", server.port()), timeouts).value();
}

ScriptedServer::Handler Always(ScriptedReply reply) {
  return [reply](const SeenRequest&) { return reply; };
}

ScriptedReply Raw(std::string bytes, bool close = false) {
  ScriptedReply reply;
  reply.bytes = std::move(bytes);
  reply.close = close;
  return reply;
}

TEST(ClientTest, SendsARequestAndReadsTheAnswer) {
  ScriptedServer server(Always(Reply(201, "made", {"X-Thing: one"})));
  const auto connection = To(server);
  Request request;
  request.method = "POST";
  request.target = "/things?x=1";
  request.headers = {{"Content-Type", "text/plain"}};
  request.body = "hello";
  const Response response = connection->Send(request).value();
  EXPECT_EQ(response.status, 201);
  EXPECT_EQ(HeaderValue(response.headers, "x-thing"), "one");
  EXPECT_EQ(connection->ReadBody(100).value(), "made");
  const SeenRequest seen = server.requests().at(0);
  EXPECT_EQ(seen.method, "POST");
  EXPECT_EQ(seen.target, "/things?x=1");
  EXPECT_EQ(seen.body, "hello");
  EXPECT_EQ(seen.Header("Host"), server.Address());
  EXPECT_EQ(seen.Header("Content-Type"), "text/plain");
}

TEST(ClientTest, OneConnectionServesManyRequests) {
  ScriptedServer server(Always(Reply(200, "x")));
  const auto connection = To(server);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(connection->Send({}).ok());
    EXPECT_FALSE(connection->reusable()) << "the body is still unread";
    ASSERT_TRUE(connection->ReadBody(10).ok());
    EXPECT_TRUE(connection->reusable());
  }
  EXPECT_EQ(server.requests().back().connection, 0);
}

TEST(ClientTest, AnAnswerThatClosesTheConnectionEndsReuse) {
  ScriptedServer server(Always(Reply(200, "x", {"Connection: close"})));
  const auto connection = To(server);
  ASSERT_TRUE(connection->Send({}).ok());
  ASSERT_TRUE(connection->ReadBody(10).ok());
  EXPECT_FALSE(connection->reusable());
  EXPECT_EQ(connection->Send({}).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ClientTest, ReadsChunkedBodies) {
  ScriptedServer server(
      Always(Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: "
                 "chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n")));
  const auto connection = To(server);
  ASSERT_TRUE(connection->Send({}).ok());
  EXPECT_EQ(connection->ReadBody(100).value(), "abcdefg");
  EXPECT_TRUE(connection->reusable());
}

TEST(ClientTest, ReadsABodyThatEndsWithTheConnection) {
  ScriptedServer server(Always(Raw("HTTP/1.1 200 OK\r\n\r\nuntil the end", true)));
  const auto connection = To(server);
  ASSERT_TRUE(connection->Send({}).ok());
  EXPECT_EQ(connection->ReadBody(100).value(), "until the end");
  EXPECT_FALSE(connection->reusable());
}

TEST(ClientTest, ReadsLargeBodiesWhole) {
  std::string large;
  for (int i = 0; large.size() < (5 << 20); ++i) {
    absl::StrAppend(&large, i, ",");
  }
  ScriptedServer server(Always(Reply(200, large)));
  const auto connection = To(server);
  ASSERT_TRUE(connection->Send({}).ok());
  EXPECT_TRUE(connection->ReadBody(8 << 20).value() == large);
}

TEST(ClientTest, SkipsInterimAnswersAndBodilessOnes) {
  ScriptedServer server([](const SeenRequest& request) {
    return request.method == "HEAD"
               ? Raw("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
               : Raw("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 None\r\n\r\n");
  });
  const auto connection = To(server);
  EXPECT_EQ(connection->Send({}).value().status, 204);
  EXPECT_EQ(connection->ReadBody(10).value(), "");
  Request head;
  head.method = "HEAD";
  EXPECT_EQ(HeaderValue(connection->Send(head).value().headers, "content-length"), "99");
  EXPECT_EQ(connection->ReadBody(10).value(), "");
  EXPECT_TRUE(connection->reusable());
}

TEST(ClientTest, ABodyOverTheLimitIsRefused) {
  ScriptedServer server(Always(Reply(200, std::string(101, 'x'))));
  const auto connection = To(server);
  ASSERT_TRUE(connection->Send({}).ok());
  EXPECT_EQ(connection->ReadBody(100).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(connection->reusable());
}

TEST(ClientTest, AHeadWithoutEndIsRefused) {
  ScriptedServer server(Always(Raw("HTTP/1.1 200 OK\r\nX: " + std::string(1 << 20, 'x'))));
  EXPECT_EQ(To(server)->Send({}).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(ClientTest, AShortBodyIsABrokenConnection) {
  ScriptedServer server(Always(Raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", true)));
  const auto connection = To(server);
  ASSERT_TRUE(connection->Send({}).ok());
  std::string got;
  const absl::Status status = connection->ReadBody([&](absl::string_view bytes) {
    absl::StrAppend(&got, bytes);
    return absl::OkStatus();
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(got, "abc") << "what arrived is what a later attempt goes on from";
}

TEST(ClientTest, WhatIsNotHttpIsRefused) {
  for (const char* bytes :
       {"SSH-2.0-x\r\n\r\n", "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"}) {
    ScriptedServer server(Always(Raw(bytes, true)));
    EXPECT_EQ(To(server)->Send({}).status().code(), absl::StatusCode::kDataLoss) << bytes;
  }
}

TEST(ClientTest, ASinkEndsTheTransferWithItsOwnError) {
  ScriptedServer server(Always(Reply(200, "abc")));
  const auto connection = To(server);
  ASSERT_TRUE(connection->Send({}).ok());
  const absl::Status mine = absl::CancelledError("enough");
  EXPECT_EQ(connection->ReadBody([&](absl::string_view) { return mine; }), mine);
  EXPECT_FALSE(connection->reusable());
}

TEST(ClientTest, LinesArriveWholeAndAtOnce) {
  ScriptedServer server(
      Always(Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: "
                 "chunked\r\n\r\n4\r\none\n\r\n3\r\ntwo\r\n7\r\n2\n\nlast\r\n"
                 "0\r\n\r\n")));
  const auto connection = To(server);
  ASSERT_TRUE(connection->Send({}).ok());
  std::vector<std::string> lines;
  const auto collect = [&](absl::string_view line) {
    lines.emplace_back(line);
    return absl::OkStatus();
  };
  ASSERT_TRUE(connection->ReadLines(100, collect).ok());
  EXPECT_THAT(lines, ElementsAre("one", "two2", "last"));
}

TEST(ClientTest, ALineIsHandedOverBeforeTheBodyEnds) {
  ScriptedReply reply = Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n");
  reply.hang = true;
  ScriptedServer server(Always(reply));
  const auto connection = To(server);
  ASSERT_TRUE(connection->Send({}).ok());
  const absl::Status stop = absl::CancelledError("seen");
  EXPECT_EQ(connection->ReadLines(100,
                                  [&](absl::string_view line) {
                                    EXPECT_EQ(line, "one");
                                    return stop;
                                  }),
            stop);
}

TEST(ClientTest, ALineWithoutEndIsRefused) {
  ScriptedServer server(Always(Reply(200, std::string(200, 'x'))));
  const auto connection = To(server);
  ASSERT_TRUE(connection->Send({}).ok());
  EXPECT_EQ(connection->ReadLines(100, [](absl::string_view) { return absl::OkStatus(); }).code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ClientTest, ASilentServerRunsIntoTheIdleLimit) {
  ScriptedReply reply;
  reply.hang = true;
  ScriptedServer server(Always(reply));
  const auto connection = To(server, {absl::Seconds(5), absl::Milliseconds(100)});
  const absl::Time start = absl::Now();
  EXPECT_EQ(connection->Send({}).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

TEST(ClientTest, AServerThatDripsRunsIntoTheTimeLimit) {
  ScriptedReply reply = Reply(200, "never whole");
  reply.pause_milliseconds = 20;
  ScriptedServer server(Always(reply));
  const auto connection = To(server);
  connection->SetTimeLimit(absl::Milliseconds(200));
  EXPECT_EQ(connection->Send({}).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(ClientTest, ShutdownFromAnotherThreadEndsAWait) {
  ScriptedReply reply;
  reply.hang = true;
  ScriptedServer server(Always(reply));
  const auto connection = To(server, {absl::Seconds(5), absl::InfiniteDuration()});
  std::thread canceller([fd = connection->fd()] {
    absl::SleepFor(absl::Milliseconds(100));
    ::shutdown(fd, SHUT_RDWR);
  });
  EXPECT_EQ(connection->Send({}).status().code(), absl::StatusCode::kUnavailable);
  canceller.join();
}

TEST(ClientTest, HeadersCannotBeSmuggledIn) {
  ScriptedServer server(Always(Reply(200, "")));
  const auto connection = To(server);
  Request bad_value;
  bad_value.headers = {{"X", "a\r\nY: b"}};
  Request bad_name;
  bad_name.headers = {{"X: a\r\nY", "b"}};
  Request bad_target;
  bad_target.target = "/ HTTP/1.1\r\nX: y";
  for (const Request& request : {bad_value, bad_name, bad_target}) {
    EXPECT_EQ(connection->Send(request).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(server.requests().empty());
}

TEST(ClientTest, ARefusedConnectionIsSaidSo) {
  uint16_t port = 0;
  {
    ScriptedServer server(Always(Reply(200, "")));
    port = server.port();
  }
  const absl::Status status =
      Connection::Connect(Endpoint::Tcp("127.0.0.1", port), kPatient).status();
  EXPECT_EQ(status, absl::UnavailableError("connection refused"));
}

TEST(ClientTest, DialsAnotherAddressUnderTheSameName) {
  ScriptedServer server(Always(Reply(200, "")));
  Endpoint endpoint = Endpoint::Tcp("registry.invalid", server.port());
  endpoint.dial_address = "127.0.0.1";
  const auto connection = Connection::Connect(endpoint, kPatient).value();
  ASSERT_TRUE(connection->Send({}).ok());
  EXPECT_EQ(server.requests().at(0).Header("Host"),
            absl::StrCat("registry.invalid:", server.port()));
}

class UnixClientTest : public ::testing::Test {
 protected:
  UnixClientTest() {
    char name[] = "/tmp/vibe-http-XXXXXX";
    directory_ = ::mkdtemp(name);
  }
  ~UnixClientTest() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path directory_;
};

TEST_F(UnixClientTest, SpeaksOverAUnixSocket) {
  ScriptedServer server(directory_ / "s", Always(Reply(200, "local")));
  const auto connection = Connection::Connect(Endpoint::Unix(directory_ / "s"), kPatient).value();
  ASSERT_TRUE(connection->Send({}).ok());
  EXPECT_EQ(connection->ReadBody(10).value(), "local");
}

TEST_F(UnixClientTest, AMissingSocketIsUnavailable) {
  EXPECT_EQ(Connection::Connect(Endpoint::Unix(directory_ / "none"), kPatient).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(UnixClientTest, AnUpgradeHandsOverTheStream) {
  ScriptedReply reply =
      Raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: vibe\r\n\r\nearly");
  reply.then = [](int fd) {
    char buffer[16];
    const ssize_t count = ::recv(fd, buffer, sizeof buffer, 0);
    ::send(fd, buffer, count > 0 ? static_cast<size_t>(count) : 0, MSG_NOSIGNAL);
  };
  ScriptedServer server(directory_ / "s", Always(reply));
  const auto connection = Connection::Connect(Endpoint::Unix(directory_ / "s"), kPatient).value();
  Request request;
  request.method = "POST";
  request.headers = {{"Connection", "Upgrade"}, {"Upgrade", "vibe"}};
  ASSERT_EQ(connection->Send(request).value().status, 101);
  EXPECT_FALSE(connection->reusable());
  const UpgradedStream stream = connection->TakeStream().value();
  EXPECT_EQ(connection->fd(), -1);
  std::string text = stream.read_ahead;
  ASSERT_EQ(::send(stream.fd.get(), "echo", 4, 0), 4);
  while (text.size() < 9) {
    char buffer[16];
    const ssize_t count = ::recv(stream.fd.get(), buffer, sizeof buffer, 0);
    ASSERT_GT(count, 0);
    text.append(buffer, static_cast<size_t>(count));
  }
  EXPECT_EQ(text, "earlyecho");
}

TEST_F(UnixClientTest, ARefusedUpgradeIsAnOrdinaryAnswer) {
  ScriptedServer server(directory_ / "s", Always(Reply(404, "no such service")));
  const auto connection = Connection::Connect(Endpoint::Unix(directory_ / "s"), kPatient).value();
  Request request;
  request.headers = {{"Connection", "Upgrade"}, {"Upgrade", "vibe"}};
  ASSERT_EQ(connection->Send(request).value().status, 404);
  EXPECT_FALSE(connection->TakeStream().ok());
  EXPECT_EQ(connection->ReadBody(100).value(), "no such service");
}

}  // namespace
}  // namespace vibe::http
