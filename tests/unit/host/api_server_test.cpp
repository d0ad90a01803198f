#include "host/api_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unix_socket.h"
#include "raw_client.h"
#include "temp_dir.h"

namespace vibe::host {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class ApiServerTest : public ::testing::Test {
 protected:
  void Serve(ApiServer::Options options = {}) {
    options.version = "1.2.3";
    auto listener = ListenUnix(socket_);
    ASSERT_TRUE(listener.ok()) << listener.status();
    std::vector<Route> routes;
    routes.push_back({"GET", "/doc", DocumentHandler([](ApiCall& call) -> absl::StatusOr<json> {
                        VIBE_RETURN_IF_ERROR(call.query.Finish());
                        return json{{"hello", "world"}};
                      })});
    routes.push_back(
        {"POST", "/echo/{name}", DocumentHandler([](ApiCall& call) -> absl::StatusOr<json> {
           return json{{"name", call.path["name"]},
                       {"text", call.body.String("text").value_or("")}};
         })});
    routes.push_back(
        {"POST", "/work", StreamHandler([this](ApiCall& call, const ProgressSink& progress) {
           return Work(call, progress);
         })});
    routes.push_back({"GET", "/lines", LinesHandler([](ApiCall& call, const JsonSink& sink) {
                        for (int i = 0; !call.cancel.cancelled(); ++i) {
                          VIBE_RETURN_IF_ERROR(sink({{"n", i}}));
                        }
                        return absl::OkStatus();
                      })});
    server_ = std::make_unique<ApiServer>(*std::move(listener), std::move(routes), options);
  }

  absl::StatusOr<json> Work(ApiCall& call, const ProgressSink& progress) {
    const std::string what = call.body.String("what").value_or("");
    if (what == "fail early") {
      return absl::NotFoundError("early");
    }
    if (what != "silent") {
      progress({"fetch", "web", "", 1, 2, "bytes"});
    }
    if (what == "fail late") {
      return absl::UnavailableError("late");
    }
    if (what == "wait" || what == "silent") {
      ++waiting_;
      const bool ran_out =
          call.cancel.SleepFor(what == "wait" ? absl::Seconds(20) : absl::Milliseconds(300));
      cancelled_ = cancelled_ + (ran_out ? 0 : 1);
      VIBE_RETURN_IF_ERROR(call.cancel.Check());
    }
    return json{{"done", true}};
  }

  static void Await(const std::atomic<int>& value, int wanted) {
    for (int i = 0; i < 1000 && value != wanted; ++i) {
      absl::SleepFor(absl::Milliseconds(10));
    }
    EXPECT_EQ(value, wanted);
  }

  const TempDir dir_;
  const std::filesystem::path socket_ = dir_.path() / "api.sock";
  std::atomic<int> waiting_{0};
  std::atomic<int> cancelled_{0};
  std::unique_ptr<ApiServer> server_;
};

TEST_F(ApiServerTest, AnswersWithADocumentAndItsVersion) {
  Serve();
  const RawAnswer answer = Ask(socket_, "GET", "/doc");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.Json(), (json{{"hello", "world"}}));
  EXPECT_THAT(answer.head, HasSubstr("Vibe-Version: 1.2.3\r\n"));
  EXPECT_THAT(answer.head, HasSubstr("Content-Type: application/json\r\n"));
}

TEST_F(ApiServerTest, TheSocketIsForItsOwnerOnly) {
  Serve();
  struct stat info {};
  ASSERT_EQ(::stat(socket_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(ApiServerTest, AConnectionTakesManyRequestsAlsoAtOnce) {
  Serve();
  const RawClient client(socket_);
  const std::string request = "GET /doc HTTP/1.1\r\nHost: localhost\r\n\r\n";
  client.Send(request + request + request);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(client.ReadAnswer().status, 200) << i;
  }
}

TEST_F(ApiServerTest, PagesOfTheWebAreKeptOut) {
  Serve();
  for (const char* headers :
       {"Host: vibed\r\nOrigin: http://localhost\r\n", "Host: example.com\r\n",
        "Host: localhost.example.com\r\n", "Host: vibed:80:80\r\n", "X: y\r\n"}) {
    const RawClient client(socket_);
    client.SendRequest("GET", "/doc", "", headers);
    EXPECT_EQ(client.ReadAnswer().status, 403) << headers;
  }
  for (const char* headers : {"Host: VIBED\r\n", "Host: localhost:80\r\n", "Host: 127.0.0.1\r\n",
                              "Host: [::1]\r\n", "Host: [::1]:80\r\n"}) {
    const RawClient client(socket_);
    client.SendRequest("GET", "/doc", "", headers);
    EXPECT_EQ(client.ReadAnswer().status, 200) << headers;
  }
}

TEST_F(ApiServerTest, SaysWhatIsNotServed) {
  Serve();
  EXPECT_EQ(Ask(socket_, "GET", "/nothing").status, 404);
  const RawAnswer wrong = Ask(socket_, "DELETE", "/doc");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_THAT(wrong.head, HasSubstr("Allow: GET\r\n"));
  EXPECT_EQ(Ask(socket_, "GET", "/doc?x=1").status, 400);
}

TEST_F(ApiServerTest, BodiesAndHeadsHaveLimits) {
  Serve();
  EXPECT_EQ(
      Ask(socket_, "POST", "/echo/a", json{{"text", std::string(1'000'000, 'x')}}.dump()).status,
      200);
  EXPECT_EQ(Ask(socket_, "POST", "/echo/a", std::string((1 << 20) + 1, 'x')).status, 413);
  const RawClient client(socket_);
  client.SendRequest("GET", "/doc", "", "Host: vibed\r\nX: " + std::string(20'000, 'x') + "\r\n");
  EXPECT_EQ(client.ReadAnswer().status, 431);
}

TEST_F(ApiServerTest, WhatIsNoHttpIsRefused) {
  Serve();
  const RawClient client(socket_);
  client.Send("\x16\x03\x01 hello\r\n\r\n");
  EXPECT_EQ(client.ReadAnswer().status, 400);
}

TEST_F(ApiServerTest, AClientThatSendsHalfARequestIsNotWaitedForForEver) {
  ApiServer::Options options;
  options.request = absl::Milliseconds(100);
  Serve(options);
  const RawClient client(socket_);
  client.Send("GET /doc HT");
  EXPECT_EQ(client.ReadAnswer().status, 408);
}

TEST_F(ApiServerTest, StreamsProgressAndThenTheResult) {
  Serve();
  const RawAnswer answer = Ask(socket_, "POST", "/work", "{}");
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.head, HasSubstr("application/x-ndjson"));
  ASSERT_THAT(answer.Lines(), SizeIs(2));
  EXPECT_EQ(answer.Lines()[0]["progress"]["phase"], "fetch");
  EXPECT_EQ(answer.Lines()[1]["result"]["done"], true);
}

TEST_F(ApiServerTest, AnErrorBeforeAnythingWasSentHasItsOwnStatus) {
  Serve();
  const RawAnswer early = Ask(socket_, "POST", "/work", R"({"what":"fail early"})");
  EXPECT_EQ(early.status, 404);
  EXPECT_EQ(early.Json()["error"]["message"], "early");
  const RawAnswer late = Ask(socket_, "POST", "/work", R"({"what":"fail late"})");
  EXPECT_EQ(late.status, 200);
  EXPECT_EQ(late.Lines().back()["error"]["code"], "UNAVAILABLE");
}

TEST_F(ApiServerTest, AnAnswerThatTakesLongShowsSignsOfLife) {
  ApiServer::Options options;
  options.heartbeat = absl::Milliseconds(1);
  Serve(options);
  const RawClient client(socket_);
  client.SendRequest("POST", "/work", R"({"what":"silent"})");
  Await(waiting_, 1);
  absl::SleepFor(absl::Milliseconds(20));
  // The watch looks once a second, and whenever a request comes.
  const RawAnswer other = Ask(socket_, "GET", "/doc");
  EXPECT_EQ(other.status, 200);
  const RawAnswer answer = client.ReadAnswer();
  EXPECT_EQ(answer.body.substr(0, 1), "\n") << "a client that waits cannot tell work from a hang";
  ASSERT_THAT(answer.Lines(), SizeIs(1));
  EXPECT_EQ(answer.Lines().back()["result"]["done"], true);
}

TEST_F(ApiServerTest, WorkIsCancelledWhenTheClientGoes) {
  Serve();
  RawClient client(socket_);
  client.SendRequest("POST", "/work", R"({"what":"wait"})");
  Await(waiting_, 1);
  client.Close();
  Await(cancelled_, 1);
}

TEST_F(ApiServerTest, WorkIsCancelledWhenAClientWithUnreadRequestsGoes) {
  Serve();
  RawClient client(socket_);
  client.SendRequest("POST", "/work", R"({"what":"wait"})");
  client.SendRequest("GET", "/doc");
  Await(waiting_, 1);
  absl::SleepFor(absl::Milliseconds(50));
  client.Close();
  Await(cancelled_, 1);
}

TEST_F(ApiServerTest, EndingTheServerCancelsWorkAndReturns) {
  Serve();
  const RawClient client(socket_);
  client.SendRequest("POST", "/work", R"({"what":"wait"})");
  const RawClient idle(socket_);
  Await(waiting_, 1);
  const absl::Time begin = absl::Now();
  server_.reset();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(2));
  EXPECT_EQ(cancelled_, 1);
}

TEST_F(ApiServerTest, AReaderThatStopsHoldsUpItselfOnly) {
  Serve();
  RawClient slow(socket_);
  slow.SendRequest("GET", "/lines");
  EXPECT_THAT(slow.ReadUntil("\r\n\r\n"), HasSubstr("200"));
  absl::SleepFor(absl::Milliseconds(100));  // its socket is full by now
  EXPECT_EQ(Ask(socket_, "GET", "/doc").status, 200);
  slow.Close();
}

TEST_F(ApiServerTest, TooManyConnectionsAreToldSo) {
  ApiServer::Options options;
  options.max_connections = 3;
  Serve(options);
  std::vector<RawClient> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back(socket_);
    clients.back().Send("GET /doc HTTP/1.1\r\nHost: vibed\r\n\r\n");
    EXPECT_EQ(clients.back().ReadAnswer().status, 200);
  }
  {
    const RawClient one_more(socket_);
    EXPECT_EQ(one_more.ReadAnswer().status, 429);
  }
  clients.pop_back();
  int status = 0;
  for (int i = 0; i < 100 && status != 200; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
    status = Ask(socket_, "GET", "/doc").status;
  }
  EXPECT_EQ(status, 200) << "the place of the one that left was not given away";
}

}  // namespace
}  // namespace vibe::host
