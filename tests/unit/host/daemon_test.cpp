// vibed whole, on a real socket, before a machine whose supervisor is scripted.
#include "host/daemon.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <yaml-cpp/yaml.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/random.h"
#include "base/status.h"
#include "host/exec_frame.h"
#include "host/home.h"
#include "host/library.h"
#include "host/routes.h"
#include "raw_client.h"
#include "scripted_supervisor.h"
#include "temp_dir.h"

namespace vibe::host {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

YAML::Node Contract() {
  static const YAML::Node document =
      YAML::LoadFile(std::string(VIBE_TEST_SOURCE_DIR) + "/../docs/api/openapi.yaml");
  return document;
}

// The value against the schema: types, required members, enumerations, nothing that the schema does
// not name.
void CheckSchema(const json& value, YAML::Node schema, const std::string& where) {
  if (schema["$ref"]) {
    const std::string name = schema["$ref"].as<std::string>();
    CheckSchema(value, Contract()["components"]["schemas"][name.substr(name.rfind('/') + 1)],
                where);
    return;
  }
  if (schema["oneOf"]) {
    for (const YAML::Node& option : schema["oneOf"]) {
      if (!(option["type"] && option["type"].as<std::string>() == "null")) {
        if (!value.is_null()) {
          CheckSchema(value, option, where);
        }
      }
    }
    return;
  }
  std::set<std::string> types;
  if (schema["type"].IsSequence()) {
    for (const YAML::Node& type : schema["type"]) {
      types.insert(type.as<std::string>());
    }
  } else {
    types.insert(schema["type"].as<std::string>());
  }
  const std::string type = value.is_null()             ? "null"
                           : value.is_boolean()        ? "boolean"
                           : value.is_number_integer() ? "integer"
                           : value.is_string()         ? "string"
                           : value.is_array()          ? "array"
                           : value.is_object()         ? "object"
                                                       : "other";
  ASSERT_EQ(types.count(type), 1u) << where << " is " << value;
  if (schema["enum"]) {
    bool listed = false;
    for (const YAML::Node& allowed : schema["enum"]) {
      listed = listed || allowed.as<std::string>() == value.get<std::string>();
    }
    EXPECT_TRUE(listed) << where << " is " << value;
  }
  if (type == "array") {
    for (const json& item : value) {
      CheckSchema(item, schema["items"], where + "[]");
    }
  }
  if (type == "object") {
    for (const YAML::Node& required : schema["required"]) {
      EXPECT_TRUE(value.contains(required.as<std::string>())) << where << " lacks " << required;
    }
    for (const auto& [name, member] : value.items()) {
      ASSERT_TRUE(schema["properties"][name]) << where << "." << name << " is in no schema";
      CheckSchema(member, schema["properties"][name], where + "." + name);
    }
  }
}

void CheckSchema(const json& value, const std::string& name) {
  CheckSchema(value, Contract()["components"]["schemas"][name], name);
}

class DaemonTest : public ::testing::Test {
 protected:
  DaemonTest() {
    ::signal(SIGPIPE, SIG_IGN);  // as vibed does
    std::filesystem::create_directories(dir_.path() / "machine");
    dir_.Write("app/vibe.yaml", Manifest("1.0.0"));
    dir_.Write("app/server.js", "serve()");
    StartDaemon();
  }
  ~DaemonTest() override {
    supervisor_.OnStart({});
    daemon_.reset();
  }

  static std::string Manifest(const std::string& version) {
    return absl::StrCat(
        "kind: vibe.app/v1\nid: com.example.notes\nname: My Notes\nversion: ", version,
        "\nsecurity:\n  network: true\nservices:\n  - name: web\n    image: nginx\n    "
        "ports:\n      - container: 80\n      - container: 53\n        protocol: udp\n");
  }

  void StartDaemon(const vm::Machine::Options& options = {}) {
    ASSERT_TRUE(PrepareHome(home_).ok());
    // The machine outlives vibed, as the real one does.
    class Borrowed : public vm::VirtualMachine {
     public:
      explicit Borrowed(ScriptedMachine& machine) : machine_(machine) {}
      std::string name() const override { return machine_.name(); }
      absl::Status Start() override { return machine_.Start(); }
      absl::StatusOr<UniqueFd> Dial(uint32_t port) override { return machine_.Dial(port); }
      absl::Status RequestShutdown() override { return machine_.RequestShutdown(); }
      absl::Status Kill() override { return machine_.Kill(); }
      absl::Status Pause() override { return machine_.Pause(); }
      absl::Status Resume() override { return machine_.Resume(); }
      vm::PowerState state() const override { return machine_.state(); }

     private:
      ScriptedMachine& machine_;
    };
    auto daemon = Daemon::Start(
        {home_, "1.2.3", {std::make_unique<Borrowed>(machine_), "the test says so"}, options});
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
  }

  RawAnswer Call(const std::string& method, const std::string& target,
                 const json& body = nullptr) const {
    return Ask(socket_, method, target, body.is_null() ? "" : body.dump());
  }
  std::string App() const { return (dir_.path() / "app").string(); }
  json OpenBody() const {
    return {{"path", App()}, {"decisions", {{"network", false}, {"exposePorts", true}}}};
  }
  json Open() const {
    const RawAnswer answer = Call("POST", "/v1/projects", OpenBody());
    EXPECT_EQ(answer.status, 200) << answer.body;
    const auto lines = answer.Lines();
    EXPECT_TRUE(!lines.empty() && lines.back().contains("result")) << answer.body;
    return lines.empty() ? json() : lines.back()["result"];
  }
  // As another program does that listens there.
  static UniqueFd Occupy(uint16_t port) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(fd.get(), 1), 0);
    return fd;
  }
  static std::string Knock(uint16_t port) {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      return "refused";
    }
    char buffer[7];
    return ::read(fd.get(), buffer, sizeof buffer) == 7 ? std::string(buffer, 7) : "closed";
  }
  static std::string KnockUntil(uint16_t port, const std::string& wanted) {
    std::string answer;
    for (int i = 0; i < 500 && answer != wanted; ++i) {
      absl::SleepFor(absl::Milliseconds(i == 0 ? 0 : 10));
      answer = Knock(port);
    }
    return answer;
  }

  const TempDir dir_;
  const std::filesystem::path home_ = dir_.path() / "home";
  const std::filesystem::path socket_ = home_ / kSocketName;
  ScriptedSupervisor supervisor_;
  ScriptedMachine machine_{dir_.path() / "machine", supervisor_};
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(DaemonTest, ServesExactlyWhatTheContractLists) {
  std::set<std::string> listed;
  for (const auto& path : Contract()["paths"]) {
    for (const auto& operation : path.second) {
      const auto method = operation.first.as<std::string>();
      if (method != "parameters") {
        listed.insert(method + " " + path.first.as<std::string>());
      }
    }
  }
  std::set<std::string> served;
  auto library = Library::Load(dir_.path() / "library");
  SupervisorClient supervisor(
      []() -> absl::StatusOr<UniqueFd> { return absl::UnavailableError("off"); });
  vm::Machine machine(std::make_unique<ScriptedMachine>(dir_.path(), supervisor_),
                      [] { return absl::OkStatus(); }, {});
  PortForwarder ports([]() -> absl::StatusOr<UniqueFd> { return absl::UnavailableError("off"); });
  Projects projects({**library, machine, supervisor, ports});
  MachineReset reset({**library, machine, supervisor, ports, projects, home_});
  const Doctor doctor(**library, machine, supervisor, projects, home_, "");
  HostNetworkPush network(
      supervisor, [] { return vm::MachineState::kStopped; }, [](bool) { return absl::OkStatus(); });
  for (const Route& route :
       MakeRoutes({projects, machine, supervisor, ports, network, reset, doctor, "", "", home_})) {
    std::string method = route.method;
    std::transform(method.begin(), method.end(), method.begin(), [](char c) { return c | 0x20; });
    served.insert(method + " " + route.path);
  }
  EXPECT_EQ(served, listed);
}

TEST_F(DaemonTest, AnswersAsTheContractSaysWhileTheMachineIsOff) {
  CheckSchema(Call("GET", "/v1/version").Json(), "Version");
  CheckSchema(Call("GET", "/v1/machine").Json(), "Machine");
  CheckSchema(Call("GET", "/v1/projects").Json(), "ProjectList");
  CheckSchema(Call("GET", "/v1/doctor").Json(), "Doctor");
  CheckSchema(Call("GET", "/v1/machine/reset").Json(), "Reset");
  CheckSchema(Call("GET", "/v1/projects/nope").Json(), "ErrorDocument");
  CheckSchema(Call("POST", "/v1/inspect", {{"path", App()}}).Json(), "Inspection");
  EXPECT_EQ(machine_.state(), vm::PowerState::kOff) << "looking must not boot the machine";
}

TEST_F(DaemonTest, AnswersAsTheContractSaysWhileAProjectRuns) {
  const RawAnswer opened = Call("POST", "/v1/projects", OpenBody());
  for (const json& line : opened.Lines()) {
    CheckSchema(line, "ProjectStreamLine");
  }
  CheckSchema(Call("GET", "/v1/projects").Json(), "ProjectList");
  CheckSchema(Call("GET", "/v1/projects/my-notes").Json(), "Project");
  CheckSchema(Call("GET", "/v1/machine").Json(), "Machine");
  CheckSchema(Call("GET", "/v1/doctor").Json(), "Doctor");
  CheckSchema(Call("POST", "/v1/inspect", {{"path", App()}}).Json(), "Inspection");
  for (const json& line : Call("GET", "/v1/projects/my-notes/logs").Lines()) {
    CheckSchema(line, "LogLine");
  }
  for (const json& line : Call("POST", "/v1/projects/my-notes/restart", json::object()).Lines()) {
    CheckSchema(line, "ProjectStreamLine");
  }
  for (const json& line :
       Call("POST", "/v1/projects/my-notes/stop", {{"timeoutSeconds", 1}}).Lines()) {
    CheckSchema(line, "ProjectStreamLine");
  }
  for (const json& line : Call("DELETE", "/v1/projects/my-notes").Lines()) {
    CheckSchema(line, "EmptyStreamLine");
  }
  for (const char* verb : {"restart", "stop"}) {
    for (const json& line : Call("POST", absl::StrCat("/v1/machine/", verb)).Lines()) {
      CheckSchema(line, "MachineStreamLine");
    }
  }
  for (const json& line : Call("POST", "/v1/machine/reset").Lines()) {
    CheckSchema(line, "ResetStreamLine");
  }
}

TEST_F(DaemonTest, OpensAnAppAndItsPortLeadsToTheService) {
  const json project = Open();
  EXPECT_EQ(project["name"], "my-notes");
  EXPECT_EQ(project["status"], "running");
  const json& ports = project["services"][0]["ports"];
  const uint16_t port = ports[0]["hostPort"];
  EXPECT_EQ(project["url"], absl::StrCat("http://localhost:", port));
  EXPECT_EQ(project["namedUrl"], absl::StrCat("http://my-notes.localhost:", port));
  EXPECT_TRUE(ports[1]["hostPort"].is_number()) << "UDP is forwarded too";
  EXPECT_EQ(Knock(port), "CONNECT");
  const auto ensured = supervisor_.ensured();
  ASSERT_EQ(ensured.size(), 1u);
  EXPECT_FALSE(ensured.begin()->second.grants().network()) << "it was refused";
  EXPECT_TRUE(ensured.begin()->second.grants().expose_ports());
  EXPECT_EQ(supervisor_.uploaded(), "serve()" + Manifest("1.0.0"));
}

TEST_F(DaemonTest, OpeningTwiceIsHarmless) {
  const json first = Open();
  const json second = Open();
  EXPECT_EQ(first["id"], second["id"]);
  EXPECT_EQ(first["url"], second["url"]);
  EXPECT_EQ(supervisor_.imports(), 1);
  EXPECT_EQ(Call("GET", "/v1/projects").Json()["projects"].size(), 1u);
}

TEST_F(DaemonTest, ANewVersionOfTheAppKeepsThePort) {
  const json first = Open();
  dir_.Write("app/vibe.yaml", Manifest("2.0.0"));
  const json second = Open();
  EXPECT_EQ(second["version"], "2.0.0");
  EXPECT_EQ(second["url"], first["url"]);
  EXPECT_EQ(second["status"], "running");
  EXPECT_EQ(KnockUntil(first["services"][0]["ports"][0]["hostPort"], "CONNECT"), "CONNECT");
}

TEST_F(DaemonTest, APortThatTheUserChoseIsKept) {
  const json first = Open();
  const std::string service = first["services"][0]["name"];
  const uint16_t chosen = first["services"][0]["ports"][1]["hostPort"];
  json body = OpenBody();
  body["ports"] = {absl::StrCat(service, ":", chosen, "/tcp")};  // free: only UDP has it
  const json opened = Call("POST", "/v1/projects", body).Lines().back()["result"];
  EXPECT_EQ(opened["services"][0]["ports"][0]["hostPort"], chosen);
  EXPECT_EQ(Knock(chosen), "CONNECT");
  EXPECT_EQ(Open()["services"][0]["ports"][0]["hostPort"], chosen);
  body["ports"] = {"nobody:80"};
  EXPECT_EQ(Call("POST", "/v1/projects", body).Json()["error"]["reason"], "NOT_FOUND");
  body["ports"] = {"web"};
  EXPECT_EQ(Call("POST", "/v1/projects", body).status, 400);
}

TEST_F(DaemonTest, AsksForEachCapabilityBeforeItDoesAnything) {
  const RawAnswer answer =
      Call("POST", "/v1/projects", {{"path", App()}, {"decisions", {{"network", true}}}});
  EXPECT_EQ(answer.status, 409);
  EXPECT_EQ(answer.Json()["error"]["code"], "FAILED_PRECONDITION");
  EXPECT_THAT(answer.Json()["error"]["message"].get<std::string>(), HasSubstr("exposePorts"));
  EXPECT_EQ(machine_.state(), vm::PowerState::kOff);
  EXPECT_TRUE(Call("GET", "/v1/projects").Json()["projects"].empty());
}

TEST_F(DaemonTest, TwoCopiesOfAnAppHavePortsOfTheirOwn) {
  const json first = Open();
  json body = OpenBody();
  body["name"] = "other";
  const json second = Call("POST", "/v1/projects", body).Lines().back()["result"];
  EXPECT_NE(first["id"], second["id"]);
  EXPECT_NE(first["url"], second["url"]);
}

TEST_F(DaemonTest, ANameThatBelongsToAnotherAppIsAConflict) {
  Open();
  std::string manifest = Manifest("1.0.0");
  manifest.replace(manifest.find("notes"), 5, "other");
  dir_.Write("app/vibe.yaml", manifest);
  const RawAnswer answer = Call("POST", "/v1/projects", OpenBody());
  EXPECT_EQ(answer.status, 409);
  EXPECT_EQ(answer.Json()["error"]["reason"], "CONFLICT");
}

TEST_F(DaemonTest, AStopClosesThePortAndAStartOpensTheSameOne) {
  const uint16_t port = Open()["services"][0]["ports"][0]["hostPort"];
  EXPECT_EQ(Call("POST", "/v1/projects/my-notes/stop").Lines().back()["result"]["status"],
            "stopped");
  EXPECT_EQ(Knock(port), "refused");
  const json started = Call("POST", "/v1/projects/my-notes/start").Lines().back()["result"];
  EXPECT_EQ(started["services"][0]["ports"][0]["hostPort"], port);
  EXPECT_EQ(Knock(port), "CONNECT");
}

TEST_F(DaemonTest, APortThatIsTakenIsToldAndTheNextStartWorks) {
  const uint16_t port = Open()["services"][0]["ports"][0]["hostPort"];
  Call("POST", "/v1/projects/my-notes/stop");
  UniqueFd other = Occupy(port);
  const RawAnswer refused = Call("POST", "/v1/projects/my-notes/start");
  EXPECT_EQ(refused.status, 409);
  EXPECT_EQ(refused.Json()["error"]["reason"], "PORT_CONFLICT");
  EXPECT_EQ(refused.Json()["error"]["service"], "web");
  other.reset();
  EXPECT_TRUE(Call("POST", "/v1/projects/my-notes/start").Lines().back().contains("result"));
  EXPECT_EQ(Knock(port), "CONNECT");
}

TEST_F(DaemonTest, APortThatIsRefusedChangesNothing) {
  const json first = Open();
  const json before = first["services"][0]["ports"];
  for (const int kind : {SOCK_STREAM, SOCK_DGRAM}) {
    const UniqueFd other(::socket(AF_INET, kind, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ASSERT_EQ(::bind(other.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
    ASSERT_EQ(::getsockname(other.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    if (kind == SOCK_STREAM) {
      ASSERT_EQ(::listen(other.get(), 1), 0);
    }
    const json& port = before[kind == SOCK_STREAM ? 0 : 1];
    const std::string number =
        absl::StrCat(port["containerPort"].get<int>(), kind == SOCK_STREAM ? "" : "/udp");
    json body = OpenBody();
    body["ports"] = {absl::StrCat("web:", ntohs(address.sin_port), ":", number)};
    for (const char* name : {"my-notes", "new"}) {
      body["name"] = name;
      const json error = Call("POST", "/v1/projects", body).Json()["error"];
      EXPECT_EQ(error["reason"], "PORT_CONFLICT");
      EXPECT_THAT(error["advice"].get<std::string>(),
                  HasSubstr(absl::StrCat("--port web:PORT:", number, "`")));
    }
    const json projects = Call("GET", "/v1/projects").Json()["projects"];
    ASSERT_EQ(projects.size(), 1u) << "a project that was refused is listed";
    EXPECT_EQ(projects[0]["services"][0]["ports"][0]["hostPort"], before[0]["hostPort"]);
    EXPECT_EQ(projects[0]["services"][0]["ports"][1]["hostPort"], before[1]["hostPort"]);
    EXPECT_TRUE(Call("POST", "/v1/projects/my-notes/restart").Lines().back().contains("result"));
    EXPECT_EQ(Knock(before[0]["hostPort"]), "CONNECT");
  }
}

TEST_F(DaemonTest, AStartThatFailsTellsWhyAndCanBeTriedAgain) {
  Open();
  Call("POST", "/v1/projects/my-notes/stop");
  supervisor_.OnStart([](grpc::ServerContext&) {
    return WithLog(WithService(Error(absl::StatusCode::kFailedPrecondition, Reason::kStartFailed,
                                     "web ended with code 1"),
                               "web"),
                   {"last words"});
  });
  const json error = Call("POST", "/v1/projects/my-notes/start").Lines().back()["error"];
  EXPECT_EQ(error["reason"], "START_FAILED");
  EXPECT_EQ(error["service"], "web");
  EXPECT_EQ(error["log"], json({"last words"}));
  supervisor_.OnStart({});
  EXPECT_EQ(Call("POST", "/v1/projects/my-notes/start").Lines().back()["result"]["status"],
            "running");
}

TEST_F(DaemonTest, ANewVibedFindsWhatRunsAndItsPorts) {
  const uint16_t port = Open()["services"][0]["ports"][0]["hostPort"];
  daemon_.reset();
  EXPECT_EQ(Knock(port), "refused");
  StartDaemon();
  EXPECT_EQ(KnockUntil(port, "CONNECT"), "CONNECT");
  EXPECT_EQ(Call("GET", "/v1/projects/my-notes").Json()["status"], "running");
}

TEST_F(DaemonTest, APortThatWasTakenMeanwhileIsToldAndOpensWhenItIsFree) {
  const uint16_t port = Open()["services"][0]["ports"][0]["hostPort"];
  daemon_.reset();
  UniqueFd foreign = Occupy(port);
  StartDaemon();
  std::string told;
  for (int i = 0; i < 500 && told.empty(); ++i) {
    absl::SleepFor(absl::Milliseconds(10));
    told = Call("GET", "/v1/projects/my-notes").Json()["message"];
  }
  EXPECT_THAT(told, HasSubstr(absl::StrCat("port ", port, " of this computer")));
  EXPECT_THAT(told, HasSubstr("choose another port"));
  EXPECT_THAT(Call("GET", "/v1/doctor").body, HasSubstr("my-notes: port"));
  foreign.reset();
  std::string answer;
  for (int i = 0; i < 4 && answer != "CONNECT"; ++i) {  // it is tried again every ten seconds
    answer = KnockUntil(port, "CONNECT");
  }
  EXPECT_EQ(answer, "CONNECT");
  EXPECT_EQ(Call("GET", "/v1/projects/my-notes").Json()["message"], "");
}

TEST_F(DaemonTest, GoesOnAfterTheSupervisorWasRestarted) {
  const uint16_t port = Open()["services"][0]["ports"][0]["hostPort"];
  machine_.StopSupervisor();
  machine_.StartSupervisor();
  EXPECT_EQ(Call("GET", "/v1/projects/my-notes").Json()["status"], "running");
  EXPECT_EQ(Knock(port), "CONNECT");
}

// Who is told "stopped" starts it again, or deletes what it writes to.
TEST_F(DaemonTest, WhatASupervisorThatIsSilentRunsIsUnknownAndNotStopped) {
  // The machine is not brought back for it meanwhile.
  daemon_.reset();
  StartDaemon({.missed_heartbeats = 1000});
  Open();
  machine_.StopSupervisor();
  json project = Call("GET", "/v1/projects").Json()["projects"][0];
  EXPECT_EQ(project["status"], "unknown");
  EXPECT_EQ(project["services"][0]["status"], "unknown");
  EXPECT_THAT(project["message"].get<std::string>(), HasSubstr("does not answer"));
  CheckSchema(project, "Project");
  machine_.StartSupervisor();
  EXPECT_EQ(Call("GET", "/v1/projects/my-notes").Json()["status"], "running");
  ASSERT_EQ(Call("POST", "/v1/machine/stop").status, 200);
  project = Call("GET", "/v1/projects/my-notes").Json();
  EXPECT_EQ(project["status"], "stopped") << "nothing runs in a machine that is off";
}

TEST_F(DaemonTest, AProjectThatEndsByItselfLosesItsPortUntilItRunsAgain) {
  const json project = Open();
  const uint16_t port = project["services"][0]["ports"][0]["hostPort"];
  absl::SleepFor(absl::Milliseconds(300));  // the watch has subscribed
  supervisor_.SetStatus(project["id"], v1::STATUS_FAILED);
  EXPECT_EQ(KnockUntil(port, "refused"), "refused");
  EXPECT_EQ(Call("GET", "/v1/projects/my-notes").Json()["status"], "failed");
  supervisor_.SetStatus(project["id"], v1::STATUS_RUNNING);
  EXPECT_EQ(KnockUntil(port, "CONNECT"), "CONNECT");
}

TEST_F(DaemonTest, WhatHappensDuringAnOperationIsSeenWhenItEnds) {
  const json project = Open();
  const uint16_t port = project["services"][0]["ports"][0]["hostPort"];
  absl::SleepFor(absl::Milliseconds(300));  // the watch has subscribed
  supervisor_.OnStart([&](grpc::ServerContext&) {
    supervisor_.SetStatus(project["id"], v1::STATUS_FAILED);
    absl::SleepFor(absl::Milliseconds(300));  // the watch is told, and an operation is in its way
    return absl::InternalError("no");
  });
  EXPECT_TRUE(Call("POST", "/v1/projects/my-notes/start").Lines().back().contains("error"));
  EXPECT_EQ(KnockUntil(port, "refused"), "refused");
}

TEST_F(DaemonTest, RemovesAProjectAndCanOpenItAgain) {
  const json project = Open();
  EXPECT_EQ(Call("DELETE", "/v1/projects/my-notes").Lines().back(),
            (json{{"result", json::object()}}));
  EXPECT_TRUE(supervisor_.projects().empty());
  EXPECT_EQ(Call("GET", "/v1/projects/my-notes").status, 404);
  EXPECT_NE(Open()["id"], project["id"]);
}

TEST_F(DaemonTest, DataThatWasKeptIsFoundAgainByTheSameAppAndAskedForAgain) {
  const json project = Open();
  Call("DELETE", "/v1/projects/my-notes?keepData=true");
  EXPECT_TRUE(Call("GET", "/v1/projects").Json()["projects"].empty());
  EXPECT_EQ(Call("POST", "/v1/projects", {{"path", App()}}).status, 409);
  EXPECT_EQ(Open()["id"], project["id"]);
}

TEST_F(DaemonTest, DataThatWasKeptIsListedAndDeletedWhenItIsAskedFor) {
  const json project = Open();
  Call("DELETE", "/v1/projects/my-notes?keepData=true");
  const json list = Call("GET", "/v1/projects").Json();
  CheckSchema(list, "ProjectList");
  ASSERT_EQ(list["kept"].size(), 1u);
  EXPECT_EQ(list["kept"][0]["id"], project["id"]);
  const json shown = Call("GET", "/v1/projects/my-notes").Json();
  EXPECT_EQ(shown["status"], "stopped");
  EXPECT_THAT(shown["message"].get<std::string>(), HasSubstr("`vibe rm my-notes` deletes it"));
  const json start = Call("POST", "/v1/projects/my-notes/start").Json()["error"];
  EXPECT_EQ(start["reason"], "NOT_FOUND");
  EXPECT_THAT(start["advice"].get<std::string>(), HasSubstr("its data kept"));
  const auto again = Call("DELETE", "/v1/projects/my-notes?keepData=true").Lines();
  EXPECT_THAT(again.back()["error"]["message"].get<std::string>(), HasSubstr("removed already"));
  EXPECT_TRUE(Call("DELETE", "/v1/projects/my-notes").Lines().back().contains("result"));
  EXPECT_TRUE(Call("GET", "/v1/projects").Json()["kept"].empty());
  EXPECT_NE(Open()["id"], project["id"]);
}

TEST_F(DaemonTest, ARemovalThatWasInterruptedIsFinishedByTheNextVibed) {
  const json project = Open();
  daemon_.reset();
  {
    auto library = Library::Load(home_ / "projects");
    ProjectRecord record = *(*library)->Find(project["id"].get<std::string>());
    record.pending = Pending::kRemove;
    ASSERT_TRUE((*library)->Put(record).ok());
  }
  StartDaemon();
  for (int i = 0; i < 500 && !supervisor_.projects().empty(); ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_TRUE(supervisor_.projects().empty());
}

TEST_F(DaemonTest, WhatOnlyTheMachineHasGoesWhenItIsAskedForAndNotBefore) {
  Open();
  v1::Project stray;
  stray.set_id(RandomUuid());
  stray.set_name("stray");
  stray.set_app_id("com.example.notes");
  supervisor_.Add(stray);
  json body = OpenBody();
  body["name"] = "stray";
  const json error = Call("POST", "/v1/projects", body).Json()["error"];
  EXPECT_EQ(error["reason"], "CONFLICT");
  EXPECT_THAT(error["advice"].get<std::string>(), HasSubstr("`vibe rm stray`"));
  EXPECT_EQ(Call("GET", "/v1/projects").Json()["projects"].size(), 1u)
      << "the open that was refused left a project";
  EXPECT_THAT(Call("GET", "/v1/doctor").body, HasSubstr("remove it: `vibe rm stray`"));
  const json seen = Call("GET", "/v1/projects/stray").Json();
  CheckSchema(seen, "Project");
  EXPECT_EQ(seen["id"], stray.id());
  EXPECT_THAT(seen["message"].get<std::string>(), HasSubstr("no record"));
  EXPECT_EQ(Call("DELETE", "/v1/projects/stray?keepData=true").status, 409);
  EXPECT_EQ(Call("POST", "/v1/projects/stray/start").status, 404);
  EXPECT_EQ(supervisor_.projects().size(), 2u);

  EXPECT_TRUE(Call("DELETE", "/v1/projects/" + stray.id()).Lines().back().contains("result"));
  EXPECT_EQ(supervisor_.projects().count(stray.id()), 0u);
  EXPECT_EQ(supervisor_.projects().size(), 1u) << "another project went with it";
  EXPECT_TRUE(Call("POST", "/v1/projects", body).Lines().back().contains("result"));
}

TEST_F(DaemonTest, ACopyThatRunsBeforeAnybodyWasAskedSaysHowItGetsAnAddress) {
  const std::string id = Open()["id"];
  Call("POST", "/v1/projects/my-notes/stop");
  daemon_.reset();
  {
    auto library = Library::Load(home_ / "projects");
    ProjectRecord record = *(*library)->Find(id);
    record.decisions = {};  // as `duplicate` leaves them
    ASSERT_TRUE((*library)->Put(record).ok());
  }
  StartDaemon();
  const json started = Call("POST", "/v1/projects/my-notes/start").Lines().back()["result"];
  EXPECT_THAT(started["message"].get<std::string>(),
              HasSubstr("`vibe grant my-notes exposePorts`"));
  EXPECT_EQ(
      Call("POST", "/v1/projects/my-notes/decisions", {{"exposePorts", false}}).Json()["message"],
      "")
      << "it was refused: nobody waits for it";
}

TEST_F(DaemonTest, AProjectWhoseRecordIsBrokenIsNoStray) {
  const std::string id = Open()["id"];
  daemon_.reset();
  dir_.Write("home/projects/" + id + "/project.json", "{");
  StartDaemon();
  for (int i = 0; i < 500 && Call("GET", "/v1/machine").Json()["state"] != "ready"; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  const std::string doctor = Call("GET", "/v1/doctor").body;
  EXPECT_THAT(doctor, HasSubstr("mend the file"));
  EXPECT_THAT(doctor, ::testing::Not(HasSubstr("vibe rm")));
  EXPECT_EQ(Call("DELETE", "/v1/projects/my-notes").status, 404);
  EXPECT_EQ(supervisor_.projects().size(), 1u) << "its data is gone";
}

TEST_F(DaemonTest, AMachineThatForgotAProjectGetsItFromItsFolder) {
  Open();
  Call("POST", "/v1/machine/stop");
  EXPECT_EQ(Call("GET", "/v1/projects").Json()["projects"][0]["status"], "stopped");
  supervisor_.Clear();
  EXPECT_EQ(Call("POST", "/v1/projects/my-notes/start").Lines().back()["result"]["status"],
            "running");
}

TEST_F(DaemonTest, AStopWhileTheMachineIsOffHoldsWhenItBoots) {
  const json project = Open();
  Call("POST", "/v1/machine/stop");
  EXPECT_EQ(Call("POST", "/v1/projects/my-notes/stop").Lines().back()["result"]["status"],
            "stopped");
  EXPECT_EQ(machine_.state(), vm::PowerState::kOff);
  supervisor_.SetStatus(project["id"], v1::STATUS_RUNNING);  // as the machine does with what ran
  Call("POST", "/v1/machine/start");
  for (int i = 0; i < 500 && supervisor_.projects().begin()->second.status() != v1::STATUS_STOPPED;
       ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_EQ(supervisor_.projects().begin()->second.status(), v1::STATUS_STOPPED);
}

TEST_F(DaemonTest, ADecisionWhileTheMachineIsOffIsKnownBeforeAnybodyHasTheInternet) {
  const json project = Open();
  Call("POST", "/v1/machine/stop");
  EXPECT_EQ(Call("POST", "/v1/projects/my-notes/decisions", {{"network", true}}).status, 200);
  const size_t before = supervisor_.calls().size();
  Call("POST", "/v1/machine/start");
  std::vector<std::string> calls = supervisor_.calls();
  calls.erase(calls.begin(), calls.begin() + static_cast<std::ptrdiff_t>(before));
  ASSERT_GE(calls.size(), 2U);
  EXPECT_EQ(calls[0], "SetGrants");
  EXPECT_EQ(calls[1], "SetHostNetwork");
  EXPECT_TRUE(supervisor_.projects()[project["id"]].grants().network());
}

TEST_F(DaemonTest, OneOperationAtATimeAndAClientThatGoesCancelsIts) {
  Open();
  Call("POST", "/v1/projects/my-notes/stop");
  std::atomic<bool> cancelled{false};
  std::atomic<bool> began{false};
  supervisor_.OnStart([&](grpc::ServerContext& context) -> absl::Status {
    began = true;
    for (int i = 0; i < 2000 && !context.IsCancelled(); ++i) {
      absl::SleepFor(absl::Milliseconds(5));
    }
    cancelled = context.IsCancelled();
    return absl::CancelledError("cancelled");
  });
  RawClient client(socket_);
  client.SendRequest("POST", "/v1/projects/my-notes/start");
  for (int i = 0; i < 500 && !began; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  client.Close();
  // Waits for the first one's end, and then works.
  supervisor_.OnStart({});
  EXPECT_EQ(Call("POST", "/v1/projects/my-notes/start").Lines().back()["result"]["status"],
            "running");
  for (int i = 0; i < 500 && !cancelled; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_TRUE(cancelled) << "the machine was not told";
}

TEST_F(DaemonTest, LogsAreFollowedUntilTheClientGoes) {
  Open();
  RawClient client(socket_);
  client.SendRequest("GET", "/v1/projects/my-notes/logs?follow=true&tail=1&service=web");
  EXPECT_THAT(client.ReadUntil("\n\r\n"), HasSubstr("200"));
  const std::string line = client.ReadUntil("}\n");
  EXPECT_THAT(line, HasSubstr("\"stream\":\"stderr\""));
  EXPECT_THAT(line, HasSubstr("caf\xef\xbf\xbd")) << "what is not UTF-8 is replaced";
  EXPECT_THAT(line, HasSubstr("2023-11-14T22:13:20.000000005Z"));
  client.Close();
}

TEST_F(DaemonTest, ExecCarriesInputOutputAndTheExitCode) {
  Open();
  const RawClient client(socket_);
  client.SendRequest("POST", "/v1/projects/my-notes/exec", R"({"command":["cat"],"tty":true})",
                     "Host: vibed\r\nConnection: Upgrade\r\nUpgrade: vibe-exec\r\n");
  EXPECT_THAT(client.ReadUntil("\r\n\r\n"), HasSubstr("101 Switching Protocols"));
  EXPECT_EQ(client.Read(5 + 10), EncodeFrame(2, "cat in web"));
  client.Send(EncodeFrame(0, "hello") + EncodeFrame(2, std::string("\0\x50\0\x18", 4)));
  EXPECT_EQ(client.Read(5 + 5), EncodeFrame(1, "hello"));
  EXPECT_EQ(client.Read(5 + 5), EncodeFrame(1, "80x24"));
  client.Send(EncodeFrame(1, ""));
  EXPECT_EQ(client.Read(5 + 4), EncodeFrame(3, EncodeU32(7)));
  EXPECT_EQ(client.Read(1), "") << "the connection ends";
}

TEST_F(DaemonTest, ExecTellsItsErrorsBeforeAndAfterTheSwitch) {
  EXPECT_EQ(Call("POST", "/v1/projects/my-notes/exec", {{"command", {"cat"}}}).status, 404);
  Open();
  EXPECT_EQ(Call("POST", "/v1/projects/my-notes/exec", {{"command", {"cat"}}}).status, 400)
      << "without an upgrade";
  EXPECT_EQ(
      Call("POST", "/v1/projects/my-notes/exec", {{"command", {"cat"}}, {"service", "x"}}).status,
      404);
  const RawClient client(socket_);
  client.SendRequest("POST", "/v1/projects/my-notes/exec", R"({"command":["missing"]})",
                     "Host: vibed\r\nConnection: Upgrade\r\nUpgrade: vibe-exec\r\n");
  client.ReadUntil("\r\n\r\n");
  EXPECT_EQ(client.Read(1), "\x04");
  const std::string size = client.Read(4);
  const json error = json::parse(client.Read(static_cast<unsigned char>(size[3]) +
                                             256u * static_cast<unsigned char>(size[2])));
  CheckSchema(error, "Error");
  EXPECT_EQ(error["code"], "NOT_FOUND");
  Call("POST", "/v1/projects/my-notes/stop");
  const RawAnswer stopped = Call("POST", "/v1/projects/my-notes/exec", {{"command", {"cat"}}});
  EXPECT_EQ(stopped.Json()["error"]["reason"], "NOT_RUNNING");
}

TEST_F(DaemonTest, BadRequestsSayWhatIsWrong) {
  for (const auto& [target, body, part] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"/v1/projects", "{}", "path"},
           {"/v1/projects", R"({"path":"relative"})", "absolute"},
           {"/v1/projects", R"({"path":"/","decisions":{"network":1}})", "decisions.network"},
           {"/v1/projects", R"({"path":"/","deicsions":{}})", "deicsions"},
           {"/v1/projects", R"({"path":7})", "path must be"},
           {"/v1/projects/x/stop", R"({"timeoutSeconds":601})", "timeoutSeconds"},
           {"/v1/projects/x/start", R"({"x":1})", "x"}}) {
    const RawAnswer answer = Ask(socket_, "POST", target, body);
    EXPECT_EQ(answer.status, 400) << body;
    EXPECT_THAT(answer.body, HasSubstr(part));
  }
}

TEST(Home, IsForOneVibedOnly) {
  const TempDir dir;
  ASSERT_TRUE(PrepareHome(dir.path()).ok());
  const auto first = LockHome(dir.path());
  ASSERT_TRUE(first.ok());
  const auto second = LockHome(dir.path());
  EXPECT_TRUE(absl::IsAlreadyExists(second.status()));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat(::getpid())));
}

TEST(Home, ThatIsTooDeepForSocketsIsRefusedWithAdvice) {
  const auto home = FindHome("/" + std::string(100, 'x'));
  EXPECT_TRUE(absl::IsInvalidArgument(home.status()));
  EXPECT_THAT(AdviceOf(home.status()), HasSubstr("VIBE_HOME"));
  EXPECT_EQ(*FindHome("/tmp/x/../y/"), "/tmp/y");
}

}  // namespace
}  // namespace vibe::host
