// What a user and a script see of the real program. vibed is scripted: only its side of the
// contract counts here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <csignal>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/subprocess.h"
#include "cli/json_fields.h"
#include "host/exec_frame.h"
#include "vibe_program.h"

namespace vibe::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;
using vibe::testing::Reply;
using vibe::testing::ScriptedReply;

constexpr char kProject[] =
    R"({"id":"6f1b","name":"notes","appId":"com.example.notes","version":"1.0.0","status":"running",)"
    R"("url":"http://localhost:4711","namedUrl":"http://notes.localhost:4711","path":"/apps/notes","message":"","services":[{"name":"web",)"
    R"("status":"running","containerId":"c","startedAt":null,"restartCount":0,"exitCode":null,)"
    R"("message":"","image":"notes:1","ports":[]},{"name":"db","status":"running","ports":[]}]})";

ScriptedReply Lines(const std::string& body) {
  return Reply(200, body, {"Content-Type: application/x-ndjson"});
}

ScriptedReply Result(const std::string& document) {
  return Lines(absl::StrCat(
      "{\"progress\":{\"phase\":\"start\",\"service\":\"web\"}}\n{\"result\":", document, "}\n"));
}

class ProgramTest : public ::testing::Test {
 protected:
  ProgramTest() {
    app_ = home_.path() / "app";
    EXPECT_TRUE(MakeDirectories(app_).ok());
    home_.On("GET /v1/projects/notes", Reply(200, kProject));
    home_.On("POST /v1/projects", Result(kProject));
    Wants(R"([{"capability":"network","decision":null,"detail":"reach the internet"},
              {"capability":"exposePorts","decision":true,"detail":""}])");
  }

  void Wants(const std::string& capabilities) {
    home_.On(
        "POST /v1/inspect",
        Reply(200, absl::StrCat(R"({"name":"notes","app":{"id":"com.example.notes","name":"Notes",)"
                                R"("version":"1.0.0"},"path":"/","project":null,"capabilities":)",
                                capabilities, "}")));
  }

  Finished Run(const std::vector<std::string>& args) { return RunProgram(home_, args); }
  Json OpenBody() const { return Json::parse(home_.Seen("/v1/projects").back().body); }

  ScriptedHome home_;
  std::filesystem::path app_;
};

TEST_F(ProgramTest, OpenPrintsTheAddressAndPlainProgress) {
  const Finished done =
      Run({"open", app_.string(), "--yes", "--name", "notes", "--port", "web:80", "-p", "db:5432"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(OpenBody()["ports"], Json::parse(R"(["web:80","db:5432"])"));
  EXPECT_EQ(done.out,
            "notes is running at http://notes.localhost:4711 (also http://localhost:4711)\n");
  EXPECT_EQ(done.err, "web: starting\n");
  EXPECT_EQ(OpenBody()["path"], app_.string());
  EXPECT_EQ(OpenBody()["name"], "notes");
  EXPECT_EQ(OpenBody()["decisions"], Json::parse(R"({"network":true,"exposePorts":true})"));
}

TEST_F(ProgramTest, ACopyIsStartedFromItsFolderOrWithoutOneThatHoldsAnotherVersion) {
  const auto copy = [&](const std::string& version) {
    home_.On(
        "POST /v1/projects/notes/duplicate",
        Result(absl::StrCat(R"({"id":"7a","name":"copy","appId":"com.example.notes","version":")",
                            version, R"(","status":"stopped","path":"/apps/my notes"})")));
    return Run({"duplicate", "notes", "copy"}).out;
  };
  home_.On(
      "GET /v1/projects/notes",
      Reply(200,
            R"({"id":"6f1b","name":"notes","decisions":{"network":false,"exposePorts":true}})"));
  EXPECT_THAT(copy("1.0.0"), HasSubstr("To start it: vibe open '/apps/my notes' --name copy\n"));
  ASSERT_THAT(home_.Seen("/v1/inspect"), Not(IsEmpty()));
  EXPECT_EQ(Json::parse(home_.Seen("/v1/inspect").back().body)["path"], "/apps/my notes");
  EXPECT_THAT(copy("0.9.0"),
              HasSubstr("/apps/my notes no longer holds version 0.9.0; to start the "
                        "copy as it is: vibe grant copy exposePorts && vibe start copy\n"));
  home_.On("POST /v1/inspect", Reply(404, R"({"error":{"code":"NOT_FOUND","message":"gone"}})"));
  EXPECT_THAT(copy("1.0.0"), HasSubstr("vibe start copy\n"));
}

TEST_F(ProgramTest, ARestoreThatLeavesAProjectStoppedSaysHowToStartIt) {
  home_.On("POST /v1/projects/notes/restore",
           Result(R"({"project":{"name":"notes","status":"stopped"},"restored":"4f1c"})"));
  EXPECT_THAT(Run({"restore", "notes", "4f1c"}).out, HasSubstr("To start it: vibe start notes\n"));
  home_.On("POST /v1/projects/notes/restore",
           Result(R"({"project":{"name":"notes","status":"running"},"restored":"4f1c"})"));
  EXPECT_THAT(Run({"restore", "notes", "4f1c"}).out, Not(HasSubstr("To start it")));
}

TEST_F(ProgramTest, ASnapshotIsSavedWithWhatWasSaidOrNotAtAll) {
  EXPECT_THAT(Run({"save", "notes", "-m", "\xff\xfe"}).err, HasSubstr("is not UTF-8: \\xff\\xfe"));
  EXPECT_THAT(Run({"save", "notes", "--label", "a=\xff"}).err, HasSubstr("is not UTF-8"));
  EXPECT_THAT(Run({"save", "notes", "--label", "a=1", "--label", "a=2"}).err,
              HasSubstr("the label a is given two values"));
  EXPECT_THAT(home_.Seen("/v1/projects/notes/snapshots"), IsEmpty());
}

TEST_F(ProgramTest, RemovingASnapshotNamesTheOneThatIsRemoved) {
  home_.On("DELETE /v1/projects/notes/snapshots/5FAD", Result(R"({"removed":"5fad35aa"})"));
  EXPECT_EQ(Run({"snapshot", "rm", "notes", "5FAD"}).out, "snapshot 5fad35aa is removed\n");
  EXPECT_EQ(Json::parse(Run({"snapshot", "rm", "notes", "5FAD", "--json"}).out)["removed"],
            "5fad35aa");
}

TEST_F(ProgramTest, WhatAProjectMayAndMayNotIsASentence) {
  home_.On("POST /v1/projects/notes/decisions", Reply(200, kProject));
  EXPECT_EQ(Run({"grant", "notes", "exposePorts", "network"}).out,
            "notes may be reachable from this computer and reach the internet\n");
  EXPECT_EQ(Run({"revoke", "notes", "exposePorts", "network"}).out,
            "notes may not be reachable from this computer or reach the internet\n");
}

TEST_F(ProgramTest, OpenWithoutATerminalDoesNotDecideForTheUser) {
  const Finished done = Run({"open", app_.string()});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_THAT(done.out, IsEmpty());
  EXPECT_THAT(done.err,
              StartsWith("error: Notes wants to reach the internet, and nobody can be asked"));
  EXPECT_THAT(done.err, HasSubstr("; say --yes"));
  EXPECT_THAT(home_.Seen("/v1/projects"), IsEmpty());
}

TEST_F(ProgramTest, OpenAsksOnATerminalWhatIsUndecided) {
  TerminalProgram vibe(home_, {"open", app_.string()});
  ASSERT_TRUE(vibe.WaitFor("Allow it? [y/N]")) << vibe.screen();
  EXPECT_THAT(vibe.screen(), HasSubstr("Notes wants to reach the internet."));
  vibe.Type("maybe\n");
  ASSERT_TRUE(vibe.WaitFor("answer y or n")) << vibe.screen();
  vibe.Type("n\n");
  EXPECT_EQ(vibe.Wait(), 0) << vibe.screen();
  EXPECT_THAT(vibe.screen(), HasSubstr("notes is running at http://notes.localhost:4711"));
  EXPECT_EQ(OpenBody()["decisions"], Json::parse(R"({"network":false})"));
}

TEST_F(ProgramTest, CtrlCAtAQuestionEndsWith130) {
  TerminalProgram vibe(home_, {"open", app_.string()});
  ASSERT_TRUE(vibe.WaitFor("Allow it?"));
  vibe.Type("\x03");
  EXPECT_EQ(vibe.Wait(), 130);
  EXPECT_THAT(home_.Seen("/v1/projects"), IsEmpty());
}

TEST_F(ProgramTest, CtrlCDuringACallClosesTheConnection) {
  ScriptedReply reply;
  reply.bytes =
      "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
      "{\"progress\":{\"phase\":\"fetch\",\"service\":\"db\",\"done\":1,\"total\":4,\"unit\":"
      "\"bytes\"}}\n";
  std::atomic<bool> closed = false;
  reply.then = [&](int fd) {
    char byte = 0;
    closed = ::recv(fd, &byte, 1, 0) == 0;
  };
  home_.On("POST /v1/projects", reply);
  TerminalProgram vibe(home_, {"open", app_.string(), "--yes"});
  ASSERT_TRUE(vibe.WaitFor("fetching")) << vibe.screen();
  vibe.Type("\x03");
  EXPECT_EQ(vibe.Wait(), 130);
  EXPECT_TRUE(vibe.Echoes());
  while (!closed) {
    std::this_thread::yield();
  }
}

TEST_F(ProgramTest, JsonIsOneDocumentWhateverHappens) {
  home_.On("GET /v1/projects", Reply(200, absl::StrCat("{\"projects\":[", kProject, "]}")));
  home_.On("GET /v1/machine", Reply(200, R"({"state":"ready","error":""})"));
  home_.On("POST /v1/machine/restart", Result(R"({"state":"ready","error":""})"));
  home_.On("GET /v1/machine/logs?tail=100&follow=false", Lines("{\"text\":\"up\"}\n"));
  home_.On("GET /v1/machine/reset", Reply(200, R"({"projects":[],"keptProjects":0,"bytes":0})"));
  home_.On("POST /v1/machine/reset", Result(R"({"projects":[],"keptProjects":0,"bytes":0})"));
  home_.On("GET /v1/doctor", Reply(200, R"({"checks":[]})"));
  home_.On("GET /v1/projects/notes/logs?tail=100&follow=false", Lines(R"({"text":"hi"})"
                                                                      "\n"));
  for (const char* verb : {"start", "stop", "restart"}) {
    home_.On(absl::StrCat("POST /v1/projects/notes/", verb), Result(kProject));
  }
  home_.On("DELETE /v1/projects/6f1b?keepData=true", Result("{}"));
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"open", app_.string(), "--yes"}, "services"},
      {{"start", "notes"}, "containerId"},
      {{"stop", "notes"}, "services"},
      {{"restart", "notes"}, "services"},
      {{"ps"}, "projects"},
      {{"ps", "notes"}, "projects"},
      {{"logs", "notes"}, "\"lines\":[{\"text\":\"hi\"}]"},
      {{"rm", "notes", "--yes", "--keep-data"}, "\"removed\":\"notes\""},
      {{"validate", app_.string()}, "error"},
      {{"machine", "status"}, "ready"},
      {{"machine", "restart"}, "ready"},
      {{"machine", "logs"}, "\"lines\":[{\"text\":\"up\"}]"},
      {{"machine", "reset", "--yes"}, "keptProjects"},
      {{"machine", "reset"}, "FAILED_PRECONDITION"},
      {{"doctor"}, "checks"},
      {{"version"}, "version"},
      {{"completion", "bash"}, "script"},
      {{"man"}, "page"},
      {{"help", "open"}, "help"},
      {{"open", app_.string()}, "FAILED_PRECONDITION"},
      {{"start", "nothing"}, "\"code\":\"NOT_FOUND\""},
      {{"strat"}, "INVALID_ARGUMENT"},
  };
  for (auto [args, text] : cases) {
    args.push_back("--json");
    SCOPED_TRACE(args[0]);
    const Finished done = Run(args);
    EXPECT_FALSE(Json::parse(done.out, nullptr, false).is_discarded()) << done.out;
    EXPECT_THAT(done.out, HasSubstr(text));
    EXPECT_EQ(done.exit_code == 0,
              ObjectAt(Json::parse(done.out, nullptr, false), "error").empty());
    EXPECT_EQ(done.exit_code == 0, done.err.empty()) << done.err;
  }
}

TEST_F(ProgramTest, ExitCodesTellFailureFromMisuse) {
  EXPECT_EQ(Run({"start", "nothing"}).exit_code, 1);
  EXPECT_EQ(Run({"start", "nothing"}).err, "error: there is no such thing; see `vibe ps`\n");
  EXPECT_EQ(Run({"start"}).exit_code, 2);
  EXPECT_EQ(Run({"--nonsense"}).exit_code, 2);
  EXPECT_EQ(Run({}).exit_code, 2);
  EXPECT_EQ(Run({"help"}).exit_code, 0);
}

TEST_F(ProgramTest, RmAsksAndTakesNoForAnAnswer) {
  home_.On("DELETE /v1/projects/6f1b?keepData=false", Result("{}"));
  const Finished piped = Run({"rm", "notes"});
  EXPECT_EQ(piped.exit_code, 1);
  EXPECT_THAT(piped.err, HasSubstr("--yes"));
  {
    TerminalProgram vibe(home_, {"rm", "notes"});
    ASSERT_TRUE(vibe.WaitFor("Remove notes and all its data? [y/N]")) << vibe.screen();
    vibe.Type("\n");
    EXPECT_EQ(vibe.Wait(), 1);
  }
  EXPECT_THAT(home_.Seen("/v1/projects/6f1b?keepData=false"), IsEmpty());
  TerminalProgram vibe(home_, {"rm", "notes"});
  ASSERT_TRUE(vibe.WaitFor("[y/N]"));
  vibe.Type("y\n");
  EXPECT_EQ(vibe.Wait(), 0);
  EXPECT_THAT(home_.Seen("/v1/projects/6f1b?keepData=false"), SizeIs(1));
}

TEST_F(ProgramTest, ResetWantsAWordAndTakesNoYes) {
  home_.On("GET /v1/machine/reset",
           Reply(200, R"({"projects":["notes"],"keptProjects":0,"bytes":5000000})"));
  home_.On("POST /v1/machine/reset",
           Result(R"({"projects":["notes"],"keptProjects":0,"bytes":5000000})"));
  const Finished piped = Run({"machine", "reset"});
  EXPECT_EQ(piped.exit_code, 1);
  EXPECT_THAT(piped.err, HasSubstr("would delete the project notes with its data"));
  EXPECT_THAT(piped.err, HasSubstr("say --yes"));
  {
    TerminalProgram vibe(home_, {"machine", "reset"});
    ASSERT_TRUE(vibe.WaitFor("Type \"reset\" to go on:")) << vibe.screen();
    EXPECT_THAT(vibe.screen(),
                HasSubstr("the project notes with its data, all images, and frees 5"));
    vibe.Type("y\n");
    EXPECT_EQ(vibe.Wait(), 1);
  }
  EXPECT_THAT(home_.Seen("/v1/machine/reset"), SizeIs(2)) << "nothing but looks";
  {
    TerminalProgram vibe(home_, {"machine", "reset"});
    ASSERT_TRUE(vibe.WaitFor("to go on:"));
    vibe.Type("reset\n");
    EXPECT_EQ(vibe.Wait(), 0) << vibe.screen();
  }
  EXPECT_THAT(home_.Seen("/v1/machine/reset"), SizeIs(4));
  EXPECT_THAT(Run({"machine", "reset", "--yes"}).out, StartsWith("The machine is reset: deleted"));
}

TEST_F(ProgramTest, TheMachinesLogIsRawInAPipeAndEscapedOnATerminal) {
  home_.On("GET /v1/machine/logs?tail=5&follow=false",
           Lines("{\"time\":\"2026-01-31T12:00:00.000Z\",\"text\":\"\\u001b[31mred\"}\n"
                 "{\"time\":\"\",\"text\":\"x\"}\n"));
  EXPECT_EQ(Run({"machine", "logs", "-n", "5"}).out, "2026-01-31T12:00:00.000Z \x1b[31mred\nx\n");
  TerminalProgram vibe(home_, {"machine", "logs", "-n", "5"});
  EXPECT_EQ(vibe.Wait(), 0);
  EXPECT_THAT(vibe.screen(), HasSubstr("\\x1b[31mred"));
}

TEST_F(ProgramTest, LogsAreRawInAPipeAndEscapedOnATerminal) {
  home_.On("GET /v1/projects/notes/logs?tail=5&follow=false",
           Lines("{\"service\":\"web\",\"text\":\"\\u001b[31mred\"}\n{\"service\":\"db\",\"text\":"
                 "\"x\"}\n"));
  home_.On("GET /v1/projects/notes/logs?tail=100&follow=false&service=db",
           Lines("{\"service\":\"db\",\"text\":\"\\u001b[31mred\"}\n"));
  EXPECT_EQ(Run({"logs", "-n", "5", "notes"}).out, "web | \x1b[31mred\ndb  | x\n");
  EXPECT_EQ(Run({"logs", "notes", "-s", "db"}).out, "\x1b[31mred\n");
  TerminalProgram vibe(home_, {"logs", "-n", "5", "notes"});
  EXPECT_EQ(vibe.Wait(), 0);
  EXPECT_THAT(vibe.screen(), HasSubstr("\\x1b[31mred"));
}

TEST_F(ProgramTest, FollowedLogsEndWithTheirReader) {
  ScriptedReply reply;
  reply.bytes =
      "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
      "{\"service\":\"web\",\"text\":\"first\"}\n";
  reply.hang = true;
  home_.On("GET /v1/projects/notes/logs?tail=100&follow=true", reply);
  SubprocessOptions options;
  options.args = {"bash", "-c",
                  absl::StrCat(VIBE_TEST_BIN_DIR, "/vibe --home ", home_.path().string(),
                               " logs -f notes | head -n 1; echo \"${PIPESTATUS[0]}\"")};
  options.timeout = absl::Seconds(10);
  const absl::StatusOr<SubprocessResult> result = RunSubprocess(options);
  ASSERT_TRUE(result.ok()) << "a reader that has gone does not end it: " << result.status();
  EXPECT_EQ(result->out, "web | first\n0\n");
  EXPECT_EQ(result->err, "");
}

TEST_F(ProgramTest, CtrlCEndsFollowedLogsQuietly) {
  ScriptedReply reply;
  reply.bytes =
      "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
      "{\"service\":\"web\",\"text\":\"first\"}\n";
  reply.hang = true;
  home_.On("GET /v1/projects/notes/logs?tail=100&follow=true", reply);
  TerminalProgram vibe(home_, {"logs", "-f", "notes"});
  ASSERT_TRUE(vibe.WaitFor("first"));
  vibe.Type("\x03");
  EXPECT_EQ(vibe.Wait(), 130);
  EXPECT_THAT(vibe.screen(), Not(HasSubstr("error")));
}

// vibed's side of exec: repeats what it hears, in brackets, until 'q'.
ScriptedReply Echo() {
  ScriptedReply reply;
  reply.bytes =
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: vibe-exec\r\n\r\n";
  reply.then = [](int fd) {
    const auto send = [fd](host::ServerFrame type, const std::string& payload) {
      const std::string bytes = host::EncodeFrame(static_cast<uint8_t>(type), payload);
      (void)!::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    };
    send(host::ServerFrame::kStdout, "ready.");
    host::FrameDecoder decoder;
    while (true) {
      char bytes[4096];
      const ssize_t count = ::recv(fd, bytes, sizeof bytes, 0);
      if (count <= 0) {
        return;
      }
      decoder.Append(absl::string_view(bytes, static_cast<size_t>(count)));
      host::Frame frame;
      while (decoder.Next(frame).value_or(false)) {
        const auto type = static_cast<host::ClientFrame>(frame.type);
        if (type == host::ClientFrame::kResize) {
          const host::FrameSize size = *host::DecodeResize(frame.payload);
          send(host::ServerFrame::kStdout, absl::StrCat("[", size.columns, "x", size.rows, "]"));
        } else if (type == host::ClientFrame::kSignal) {
          send(host::ServerFrame::kStdout, absl::StrCat("[signal ", int{frame.payload[0]}, "]"));
        } else if (type == host::ClientFrame::kStdin && frame.payload != "q") {
          send(host::ServerFrame::kStdout, absl::StrCat("[", frame.payload, "]"));
        } else {
          send(host::ServerFrame::kStderr, "bye");
          send(host::ServerFrame::kExitCode, host::EncodeU32(7));
          return;
        }
      }
    }
  };
  return reply;
}

TEST_F(ProgramTest, ExecGivesTheCommandATerminal) {
  home_.On("POST /v1/projects/notes/exec", Echo());
  TerminalProgram vibe(home_, {"exec", "-s", "db", "notes", "--", "sh", "-l"});
  ASSERT_TRUE(vibe.WaitFor("ready.")) << vibe.screen();
  const Json body = Json::parse(home_.Seen("/v1/projects/notes/exec").at(0).body);
  EXPECT_EQ(body["command"], Json::parse(R"(["sh","-l"])"));
  EXPECT_EQ(body["service"], "db");
  EXPECT_EQ(body["tty"], true);
  EXPECT_EQ(body["columns"], 100);
  EXPECT_EQ(body["rows"], 30);
  while (vibe.Echoes()) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  vibe.Type("\x03");  // a byte like any other
  EXPECT_TRUE(vibe.WaitFor("[\x03]")) << vibe.screen();
  vibe.Resize(120, 40);
  EXPECT_TRUE(vibe.WaitFor("[120x40]")) << vibe.screen();
  vibe.Signal(SIGTERM);
  EXPECT_TRUE(vibe.WaitFor("[signal 15]")) << vibe.screen();
  vibe.Type("q");
  EXPECT_EQ(vibe.Wait(), 7);
  EXPECT_TRUE(vibe.Echoes()) << "the terminal is as it was";
}

TEST_F(ProgramTest, ExecLeavesTheTerminalInOrderWhenItMustGiveUp) {
  home_.On("POST /v1/projects/notes/exec", Echo());
  TerminalProgram vibe(home_, {"exec", "notes", "--", "sh"});
  ASSERT_TRUE(vibe.WaitFor("ready."));
  while (vibe.Echoes()) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  vibe.Signal(SIGHUP);
  EXPECT_EQ(vibe.Wait(), 130);
  EXPECT_TRUE(vibe.Echoes());
}

TEST_F(ProgramTest, ExecInAPipePassesInputOnlyWhenAsked) {
  home_.On("POST /v1/projects/notes/exec", Echo());
  const Finished with = RunProgram(home_, {"exec", "-i", "notes", "cat"}, "text");
  EXPECT_EQ(with.exit_code, 7);
  EXPECT_EQ(with.out, "ready.[text]");
  EXPECT_EQ(with.err, "bye");
  EXPECT_EQ(RunProgram(home_, {"exec", "notes", "cat"}, "text").out, "ready.");
  EXPECT_FALSE(Json::parse(home_.Seen("/v1/projects/notes/exec").at(0).body).contains("tty"));
}

TEST_F(ProgramTest, ExecWithJsonHoldsTheOutput) {
  home_.On("POST /v1/projects/notes/exec", Echo());
  const Finished done = Run({"--json", "exec", "notes", "cat"});
  EXPECT_EQ(done.exit_code, 7);
  EXPECT_EQ(Json::parse(done.out),
            Json::parse(R"({"exitCode":7,"stdout":"ready.","stderr":"bye"})"));
}

TEST_F(ProgramTest, DoctorFailsWhenACheckDoes) {
  home_.On(
      "GET /v1/doctor",
      Reply(
          200,
          R"({"checks":[{"name":"crun","status":"error","message":"missing","advice":"get it"}]})"));
  const Finished done = Run({"doctor"});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_THAT(done.out, HasSubstr("error"));
  EXPECT_THAT(done.out, HasSubstr("get it"));
}

TEST_F(ProgramTest, ValidateNeedsNoVibed) {
  ASSERT_TRUE(
      ReplaceFile(app_ / "vibe.yaml", "kind: vibe.app/v1\nid: com.example.x\nnmae: X\n").ok());
  const Finished done = Run({"validate", app_.string()});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_THAT(done.out, HasSubstr(absl::StrCat((app_ / "vibe.yaml").string(), ":3:")));
  EXPECT_THAT(done.out, HasSubstr("error:"));
  const Json document = Json::parse(Run({"validate", "--json", app_.string()}).out);
  EXPECT_EQ(document["valid"], false);
  EXPECT_GE(document["diagnostics"].size(), 1u);
  EXPECT_THAT(home_.Seen("/v1/version"), IsEmpty());
}

// All that is printed, on both streams.
std::string Complete(const std::filesystem::path& home, const std::vector<std::string>& words) {
  SubprocessOptions options;
  options.args = {VIBE_TEST_BIN_DIR "/vibe", "__complete"};
  options.args.insert(options.args.end(), words.begin(), words.end());
  options.env = {{"VIBE_HOME", home.string()}};
  const absl::StatusOr<SubprocessResult> result = RunSubprocess(options);
  EXPECT_TRUE(result.ok() && result->exit_code == 0);
  return result.ok() ? result->out + result->err : "";
}

TEST_F(ProgramTest, CompletesNames) {
  home_.On("GET /v1/projects", Reply(200, absl::StrCat("{\"projects\":[", kProject, "]}")));
  EXPECT_EQ(Complete(home_.path(), {"projects"}), "notes\n");
  EXPECT_EQ(Complete(home_.path(), {"services", "notes"}), "web\ndb\n");
  EXPECT_EQ(Complete(home_.path(), {"services", "other"}), "");
  EXPECT_EQ(Complete(home_.path(), {}), "");
}

TEST_F(ProgramTest, CompletesNamesWithoutVibedAndStartsNone) {
  const std::filesystem::path quiet = home_.path() / "quiet";
  EXPECT_EQ(Complete(quiet, {"projects"}), "");
  EXPECT_FALSE(std::filesystem::exists(quiet));
  for (const std::string id : {"1", "2", "3"}) {
    ASSERT_TRUE(MakeDirectories(quiet / "projects" / id).ok());
  }
  ASSERT_TRUE(ReplaceFile(quiet / "projects/1/project.json",
                          R"({"name":"work","removed":false,"services":[{"name":"web"}]})")
                  .ok());
  ASSERT_TRUE(
      ReplaceFile(quiet / "projects/2/project.json", R"({"name":"old","removed":true})").ok());
  ASSERT_TRUE(ReplaceFile(quiet / "projects/3/project.json", "torn").ok());
  EXPECT_EQ(Complete(quiet, {"projects"}), "work\n");
  EXPECT_EQ(Complete(quiet, {"services", "work"}), "web\n");
  EXPECT_FALSE(std::filesystem::exists(quiet / "vibed.sock"));
}

TEST_F(ProgramTest, ReportsOutputThatCannotBeWritten) {
  SubprocessOptions options;
  options.args = {"bash", "-c", VIBE_TEST_BIN_DIR "/vibe man > /dev/full"};
  const absl::StatusOr<SubprocessResult> result = RunSubprocess(options);
  EXPECT_EQ(result->exit_code, 1);
  EXPECT_THAT(result->err, HasSubstr("cannot write the output"));
}

}  // namespace
}  // namespace vibe::cli
