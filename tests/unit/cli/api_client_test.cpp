#include "cli/api_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/random.h"
#include "base/status.h"
#include "cli/error_text.h"
#include "scripted_server.h"

namespace vibe::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using vibe::testing::Reply;
using vibe::testing::ScriptedReply;
using vibe::testing::ScriptedServer;
using vibe::testing::SeenRequest;

class ApiClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / absl::StrCat("vibe-api-", RandomHex(6));
    ASSERT_TRUE(MakeDirectories(directory_).ok());
  }
  void TearDown() override { EXPECT_TRUE(RemoveAll(directory_).ok()); }

  std::unique_ptr<ScriptedServer> Serve(ScriptedServer::Handler handler) {
    return std::make_unique<ScriptedServer>(socket(), std::move(handler));
  }
  std::unique_ptr<ScriptedServer> Serve(const ScriptedReply& reply) {
    return Serve([reply](const SeenRequest&) { return reply; });
  }
  fs::path socket() const { return directory_ / "vibed.sock"; }

  fs::path directory_;
};

ScriptedReply Lines(const std::string& body) {
  return Reply(200, body, {"Content-Type: application/x-ndjson"});
}

ApiRequest Get(const std::string& target) {
  ApiRequest request;
  request.target = target;
  return request;
}

TEST_F(ApiClientTest, SendsJsonAndReadsTheAnswer) {
  const auto server = Serve(Reply(200, R"({"a":1})"));
  ApiRequest request = Get(ProjectTarget("no tes/..", "/start"));
  request.method = "POST";
  request.body = Json{{"b", "ü"}};
  ApiClient client(socket());
  const absl::StatusOr<Json> answer = client.Call(request);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ((*answer)["a"], 1);
  const SeenRequest seen = server->requests().at(0);
  EXPECT_EQ(seen.method, "POST");
  EXPECT_EQ(seen.target, "/v1/projects/no%20tes%2F../start");
  EXPECT_EQ(seen.body, R"({"b":"ü"})");
  EXPECT_EQ(seen.Header("Content-Type"), "application/json");
}

TEST_F(ApiClientTest, ReportsProgressThenTheResult) {
  const auto server =
      Serve(Lines(R"({"progress":{"phase":"fetch","service":"db","done":1,"total":2}}

{"progress":{"phase":"ready","service":"db"}}
{"result":{"name":"notes"}}
)"));
  std::vector<std::string> phases;
  ApiClient client(socket());
  const absl::StatusOr<Json> answer =
      client.Call(Get("/x"), [&](const ProgressEvent& event) { phases.push_back(event.phase); });
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ((*answer)["name"], "notes");
  EXPECT_THAT(phases, ElementsAre("fetch", "ready"));
}

TEST_F(ApiClientTest, PassesErrorsOn) {
  const std::string error =
      R"({"error":{"code":"NOT_FOUND","reason":"NOT_FOUND","message":"no project x","advice":"vibe ps",)"
      R"("service":"","log":["last"]}})";
  for (const ScriptedReply& reply : {Reply(404, error), Lines(error + "\n")}) {
    const auto server = Serve(reply);
    ApiClient client(socket());
    const absl::Status status = client.Call(Get("/x")).status();
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
    EXPECT_EQ(status.message(), "no project x");
    EXPECT_EQ(AdviceOf(status), "vibe ps");
    EXPECT_THAT(LogOf(status), ElementsAre("last"));
  }
}

TEST_F(ApiClientTest, ExplainsBrokenAnswers) {
  {
    const auto server = Serve(Lines("{\"progress\":{}}\n"));
    EXPECT_THAT(ApiClient(socket()).Call(Get("/x")).status().message(),
                HasSubstr("before the result came"));
  }
  {
    const auto server = Serve(Reply(200, "<html>"));
    EXPECT_TRUE(absl::IsDataLoss(ApiClient(socket()).Call(Get("/x")).status()));
  }
  {
    const auto server = Serve(Reply(500, ""));
    EXPECT_FALSE(ApiClient(socket()).Call(Get("/x")).ok());
  }
  const absl::Status status = ApiClient(socket()).Call(Get("/x")).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(AdviceOf(status), HasSubstr("vibed.log"));
}

TEST_F(ApiClientTest, StreamsRecordsAndStopsWhenTheSinkDoes) {
  const auto server = Serve(Lines("{\"text\":\"a\"}\n{\"text\":\"b\"}\n"));
  std::vector<std::string> texts;
  ApiClient client(socket());
  EXPECT_TRUE(client
                  .Stream(Get("/x"),
                          [&](const Json& record) {
                            texts.push_back(StringAt(record, "text"));
                            return absl::OkStatus();
                          })
                  .ok());
  EXPECT_THAT(texts, ElementsAre("a", "b"));
  EXPECT_EQ(client.Stream(Get("/x"), [](const Json&) { return absl::AbortedError("enough"); }),
            absl::AbortedError("enough"));
}

TEST_F(ApiClientTest, CancelEndsACallThatHangs) {
  ScriptedReply reply;
  reply.hang = true;
  const auto server = Serve(reply);
  ApiClient client(socket());
  std::thread cancel([&] {
    while (server->requests().empty()) {
      std::this_thread::yield();
    }
    client.Cancel();
  });
  EXPECT_TRUE(IsInterrupted(client.Call(Get("/x")).status()));
  cancel.join();
  EXPECT_TRUE(IsInterrupted(client.Call(Get("/x")).status())) << "and every later one";
}

TEST_F(ApiClientTest, UpgradesAndRefuses) {
  {
    ScriptedReply reply;
    reply.bytes =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "
        "vibe-exec\r\n\r\nhello";
    reply.hang = true;
    const auto server = Serve(reply);
    ApiClient client(socket());
    const absl::StatusOr<http::UpgradedStream> stream = client.Upgrade(Get("/x"), "vibe-exec");
    ASSERT_TRUE(stream.ok()) << stream.status();
    std::string bytes = stream->read_ahead;
    while (bytes.size() < 5) {
      char byte = 0;
      ASSERT_EQ(::read(stream->fd.get(), &byte, 1), 1);
      bytes += byte;
    }
    EXPECT_EQ(bytes, "hello");
    EXPECT_EQ(server->requests().at(0).Header("Upgrade"), "vibe-exec");
  }
  const auto server =
      Serve(Reply(409, R"({"error":{"code":"FAILED_PRECONDITION","message":"stopped"}})"));
  ApiClient client(socket());
  EXPECT_EQ(client.Upgrade(Get("/x"), "vibe-exec").status().message(), "stopped");
}

}  // namespace
}  // namespace vibe::cli
