// What is shown of progress, projects, logs, the machine, capabilities and errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "cli/capabilities.h"
#include "cli/error_text.h"
#include "cli/log_lines.h"
#include "cli/machine.h"
#include "cli/progress.h"
#include "cli/project.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

ProgressEvent Fetch(const std::string& service, uint64_t done, uint64_t total) {
  return {"fetch", service, "postgres:15", done, total, "bytes"};
}

TEST(Progress, ShowsABarPerService) {
  ProgressRows rows;
  rows.Apply(Fetch("db", 10, 100));
  rows.Apply({"start", "web", "", 0, 0, ""});
  rows.Apply(Fetch("db", 50'000'000, 100'000'000));
  EXPECT_THAT(RenderRows(rows.rows(), {100, 24}, false),
              ElementsAre("  db   fetching   [============>           ]  50%  50.0 MB of 100.0 MB",
                          "  web  starting"));
}

TEST(Progress, FitsTheScreen) {
  ProgressRows rows;
  for (int i = 0; i < 30; ++i) {
    rows.Apply(Fetch(absl::StrCat("service-", i), i < 10 ? 100 : 1, 100));
  }
  const std::vector<std::string> lines = RenderRows(rows.rows(), {40, 10}, true);
  EXPECT_LE(lines.size(), 9u);
  EXPECT_THAT(lines.back(), HasSubstr("more"));
  for (const std::string& line : lines) {
    EXPECT_LE(DisplayWidth(line), 40 + 9) << "with the colour's code";
  }
}

TEST(Progress, BoundsWhatItKeeps) {
  ProgressRows rows;
  for (int i = 0; i < 1000; ++i) {
    rows.Apply(Fetch(absl::StrCat("s", i), 1, 2));
  }
  EXPECT_EQ(rows.rows().size(), kMaxRows);
}

TEST(PlainProgress, SpeaksAtPhasesAndQuarters) {
  PlainProgress plain;
  EXPECT_EQ(plain.Apply(Fetch("db", 0, 100)), "db: fetching postgres:15");
  EXPECT_EQ(plain.Apply(Fetch("db", 10, 100)), std::nullopt);
  EXPECT_EQ(plain.Apply(Fetch("db", 30, 100)), "db: fetching 30% (30 B of 100 B)");
  EXPECT_EQ(plain.Apply({"ready", "db", "", 0, 0, ""}), "db: ready");
  EXPECT_EQ(plain.Apply({"boot", "", "", 0, 0, ""}), "machine: booting");
  EXPECT_EQ(plain.Apply({"erase", "", "machine", 0, 0, ""}), "machine: erasing");
}

TEST(PlainProgress, SaysEachReasonForWaitingOnce) {
  PlainProgress plain;
  EXPECT_EQ(plain.Apply({"wait", "web", "one", 0, 0, ""}), "web: waiting: one");
  EXPECT_EQ(plain.Apply({"wait", "web", "two", 0, 0, ""}), "web: waiting: two");
  EXPECT_EQ(plain.Apply({"wait", "web", "one", 0, 0, ""}), std::nullopt);
  EXPECT_EQ(plain.Apply({"wait", "db", "one", 0, 0, ""}), "db: waiting: one");
  EXPECT_EQ(plain.Apply({"stop", "web", "", 0, 0, ""}), "web: stopping");
  EXPECT_EQ(plain.Apply({"stop", "web", "(it stays)", 0, 0, ""}), "web: stopping (it stays)");
}

Json ProjectJson() {
  return Json::parse(R"({"id":"0b1c","name":"notes","appId":"com.example.notes","version":"1.0.0",
    "status":"failed","url":"http://localhost:4711","namedUrl":"http://notes.localhost:4711","path":"/apps/notes","message":"",
    "services":[{"name":"web","status":"running","containerId":"c1","startedAt":"2026-01-31T12:00:00.5Z",
      "restartCount":2,"exitCode":null,"message":"","image":"notes:1",
      "ports":[{"containerPort":8080,"hostPort":4711,"protocol":"tcp","connections":12,
                "openConnections":3,"bytesIn":1500,"bytesOut":2500000},
               {"containerPort":53,"hostPort":null,"protocol":"udp"}]},
     {"name":"db","status":"failed","containerId":"","startedAt":null,"restartCount":0,"exitCode":1,
      "message":"","image":"postgres:15","ports":[]}]})");
}

TEST(Project, ShowsServicesAndComplaints) {
  TableStyle style;
  absl::Time now;
  std::string error;
  ASSERT_TRUE(absl::ParseTime(absl::RFC3339_full, "2026-01-31T12:05:00Z", &now, &error));
  style.now = now;
  const std::string text = RenderProject(ParseProject(ProjectJson()), style);
  EXPECT_THAT(text, HasSubstr("http://localhost:4711"));
  EXPECT_THAT(text, HasSubstr("4711->8080, 53/udp"));
  EXPECT_THAT(text, HasSubstr("4m"));
  EXPECT_THAT(text, HasSubstr("db: ended with exit code 1"));
}

TEST(Project, ShowsPortsWithWhatWentThrough) {
  const std::string text = RenderPorts(ParseProject(ProjectJson()), {});
  EXPECT_THAT(text, HasSubstr("SERVICE  PORT    ADDRESS         OPEN  CONNECTIONS  IN      OUT\n"
                              "web      8080    localhost:4711  3     12           1.5 kB  2.5 MB\n"
                              "web      53/udp  -\n"));
  EXPECT_THAT(text, HasSubstr("http://notes.localhost:4711"));
  EXPECT_THAT(RenderPorts(Project(), {}), HasSubstr("no ports"));
}

TEST(Project, IsDescribedWithEveryPortThatIsOpen) {
  Json json = ProjectJson();
  json["status"] = "running";
  EXPECT_EQ(DescribeProject(ParseProject(json)),
            "notes is running at http://notes.localhost:4711 (also http://localhost:4711)");
  json["services"][0]["ports"][1]["hostPort"] = 5353;
  EXPECT_THAT(DescribeProject(ParseProject(json)),
              HasSubstr("\n  port 53/udp of web is at localhost:5353"));
  json["message"] = "it has no address";
  EXPECT_THAT(DescribeProject(ParseProject(json)), EndsWith("\nit has no address"));
}

TEST(Project, ListsProjects) {
  const std::string text = RenderProjects({ParseProject(ProjectJson())}, {});
  EXPECT_THAT(text, StartsWith("NAME   STATUS  SERVICES  URL"));
  EXPECT_THAT(text, HasSubstr("1/2"));
  EXPECT_THAT(RenderProjects({}, {}), HasSubstr("vibe open"));
}

TEST(Project, ReadsDocumentsOfOtherShapes) {
  EXPECT_EQ(ParseProject(Json::parse(R"({"name":7,"services":{}})")).name, "");
  EXPECT_EQ(ParseProject(Json::parse("[]")).services.size(), 0u);
}

TEST(LogLines, PrefixAndEscape) {
  LogRenderer terminal({"web", "database"}, {true, true, false});
  EXPECT_EQ(terminal.Render({"", "web", "stdout", "\x1b[31mred"}), "web      | \\x1b[31mred\n");
  LogRenderer pipe({"web"}, {false, false, false});
  EXPECT_EQ(pipe.Render({"", "web", "stdout", "\x1b[31mred"}), "\x1b[31mred\n");
  LogRenderer colored({"web", "db"}, {true, true, true});
  EXPECT_NE(colored.Render({"", "web", "", "x"}).substr(0, 5),
            colored.Render({"", "db", "", "x"}).substr(0, 5));
}

TEST(Machine, ShowsFacts) {
  const Json machine = Json::parse(R"({"state":"ready","backend":"native","reason":"no KVM here",
    "error":"","readySince":null,"recoveries":0,"supervisorVersion":"0.1.0","containerdVersion":"1.6",
    "disk":{"totalBytes":4000000000,"freeBytes":1000000000}})");
  const std::string text = RenderMachine(machine, false);
  EXPECT_THAT(text, StartsWith("The machine is ready\n"));
  EXPECT_THAT(text, HasSubstr("native: no KVM here"));
  EXPECT_THAT(text, HasSubstr("1.0 GB of 4.0 GB free"));
  EXPECT_THAT(text, Not(HasSubstr("recoveries")));
  EXPECT_THAT(
      RenderMachine(Json::parse(R"({"recoveries":2,"recoveryCause":"it \u001bdied"})"), false),
      HasSubstr("2, last because it \\x1bdied"));
  EXPECT_THAT(RenderMachine(Json::object(), false), HasSubstr("unknown state"));
}

TEST(Machine, SaysWhatAResetTakesAway) {
  EXPECT_EQ(DescribeLoss(Json::parse(R"({"projects":["a"],"keptProjects":0,"bytes":2000000000})")),
            "the project a with its data, all images, and frees 2.0 GB");
  EXPECT_EQ(
      DescribeLoss(Json::parse(R"({"projects":["a","\u001bb"],"keptProjects":1,"bytes":1000000})")),
      "all 2 projects (a, \\x1bb) with their data, the kept data of 1 removed one, all images, and "
      "frees 1.0 MB");
  EXPECT_THAT(DescribeLoss(Json::object()), StartsWith("no project"));
}

TEST(Checks, ShowsWhatToDo) {
  const Json checks = Json::parse(R"([{"name":"crun","status":"ok","message":"1.8","advice":""},
    {"name":"tun","status":"warning","message":"missing","advice":"load the module"}])");
  EXPECT_EQ(RenderChecks(checks, false),
            "ok       crun  1.8\nwarning  tun   missing\n               load the module\n");
  EXPECT_FALSE(HasError(checks));
  EXPECT_TRUE(HasError(Json::parse(R"([{"name":"x","status":"error"}])")));
}

TEST(Capabilities, AsksInPlainWords) {
  const std::vector<Capability> wanted = ParseCapabilities(Json::parse(
      R"({"capabilities":[{"capability":"network","decision":null,"detail":"reach the internet"},
          {"capability":"exposePorts","decision":false,"detail":""},{"capability":"other"},{}]})"));
  ASSERT_EQ(wanted.size(), 3u);
  EXPECT_EQ(wanted[0].decision, std::nullopt);
  EXPECT_EQ(wanted[1].decision, false);
  EXPECT_THAT(CapabilityQuestion("Notes", wanted[0]),
              StartsWith("Notes wants to reach the internet.\n"));
  EXPECT_THAT(CapabilityQuestion("Notes", wanted[1]), HasSubstr("127.0.0.1"));
  EXPECT_THAT(CapabilityQuestion("\x1b[2J", wanted[2]), StartsWith("\\x1b[2J wants to use other."));
}

TEST(ErrorText, SaysWhatWhyAndWhatToDo) {
  absl::Status error =
      WithAdvice(absl::NotFoundError("there is no project notes"), "see `vibe ps`");
  EXPECT_EQ(RenderError(error, false), "error: there is no project notes; see `vibe ps`\n");
  error = WithLog(WithService(absl::InternalError("exited with code 1"), "db"), {"FATAL: \x1b[1m"});
  EXPECT_EQ(RenderError(error, false),
            "error: service db: exited with code 1\n    FATAL: \\x1b[1m\n");
}

TEST(ErrorText, SurvivesTheWayThroughJson) {
  const absl::Status error = WithLog(
      WithService(
          WithAdvice(Error(absl::StatusCode::kFailedPrecondition, Reason::kStartFailed, "no"),
                     "look"),
          "web"),
      {"a", "b"});
  const absl::Status back = ErrorFromJson(ErrorToJson(error));
  EXPECT_EQ(back.code(), error.code());
  EXPECT_EQ(back.message(), error.message());
  EXPECT_EQ(ReasonOf(back), Reason::kStartFailed);
  EXPECT_EQ(AdviceOf(back), "look");
  EXPECT_EQ(ServiceOf(back), "web");
  EXPECT_THAT(LogOf(back), ElementsAre("a", "b"));
  EXPECT_FALSE(ErrorFromJson(Json::parse("7")).ok());
  EXPECT_FALSE(ErrorFromJson(Json::parse(R"({"code":"OK"})")).ok());
}

}  // namespace
}  // namespace vibe::cli
