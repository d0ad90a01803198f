// The machine's log and its reset, in a vibed that is whole, before a machine whose supervisor is
// scripted.
#include "host/machine_reset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "host/daemon.h"
#include "host/home.h"
#include "host/machine_log.h"
#include "raw_client.h"
#include "scripted_supervisor.h"
#include "temp_dir.h"

namespace vibe::host {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Text(const fs::path& path) {
  return ReadFile(path, 1 << 20).value_or("(none)");
}

class MachineResetTest : public ::testing::Test {
 protected:
  MachineResetTest() {
    fs::create_directories(dir_.path() / "machine");
    dir_.Write("app/vibe.yaml",
               "kind: vibe.app/v1\nid: com.example.notes\nname: Notes\nversion: 1.0.0\n"
               "services:\n  - name: web\n    image: nginx\n    ports:\n      - container: 80\n");
    WriteDisk("the projects' data");
    StartDaemon();
  }
  ~MachineResetTest() override {
    supervisor_.OnStart({});
    daemon_.reset();
  }

  void StartDaemon() {
    ASSERT_TRUE(PrepareHome(home_).ok());
    // The machine outlives vibed, and has its disk in the home.
    class Borrowed : public vm::VirtualMachine {
     public:
      Borrowed(ScriptedMachine& machine, fs::path directory)
          : machine_(machine), directory_(std::move(directory)) {}
      std::string name() const override { return machine_.name(); }
      absl::Status Start() override { return machine_.Start(); }
      absl::StatusOr<UniqueFd> Dial(uint32_t port) override { return machine_.Dial(port); }
      absl::Status RequestShutdown() override { return machine_.RequestShutdown(); }
      absl::Status Kill() override { return machine_.Kill(); }
      absl::Status Pause() override { return machine_.Pause(); }
      absl::Status Resume() override { return machine_.Resume(); }
      vm::PowerState state() const override { return machine_.state(); }
      fs::path ConsoleLog() const override { return directory_ / "console.log"; }
      std::vector<fs::path> DataPaths() const override {
        return {directory_ / "data.img", directory_ / "save"};
      }

     private:
      ScriptedMachine& machine_;
      const fs::path directory_;
    };
    auto daemon = Daemon::Start(
        {home_, "1.2.3", {std::make_unique<Borrowed>(machine_, scripted_), "the test says so"}});
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
  }

  void WriteDisk(const std::string& content) const {
    fs::create_directories(scripted_);
    std::ofstream(scripted_ / "data.img") << content;
  }
  RawAnswer Call(const std::string& method, const std::string& target,
                 const json& body = nullptr) const {
    return Ask(home_ / kSocketName, method, target, body.is_null() ? "" : body.dump());
  }
  json Open() const {
    return Call("POST", "/v1/projects",
                {{"path", (dir_.path() / "app").string()}, {"decisions", {{"exposePorts", true}}}})
        .Lines()
        .back();
  }
  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const fs::directory_entry& entry : fs::directory_iterator(scripted_)) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  const TempDir dir_;
  const fs::path home_ = dir_.path() / "home";
  const fs::path scripted_ = home_ / "machine" / "scripted";
  ScriptedSupervisor supervisor_;
  ScriptedMachine machine_{dir_.path() / "machine", supervisor_};
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(MachineResetTest, TellsWhatWouldGoAndTakesNothing) {
  Open();
  const json loss = Call("GET", "/v1/machine/reset").Json();
  EXPECT_EQ(loss["projects"], json({"notes"}));
  EXPECT_EQ(loss["keptProjects"], 0);
  EXPECT_GT(loss["bytes"], 0);
  EXPECT_EQ(Text(scripted_ / "data.img"), "the projects' data");
  EXPECT_EQ(machine_.state(), vm::PowerState::kOn);
}

TEST_F(MachineResetTest, LeavesNoDiskAndNoProjectAndAMachineThatWorks) {
  ASSERT_TRUE(Open().contains("result"));
  const json gone = Call("POST", "/v1/machine/reset").Lines().back()["result"];
  EXPECT_EQ(gone["projects"], json({"notes"}));
  EXPECT_THAT(Files(), IsEmpty());
  EXPECT_EQ(machine_.state(), vm::PowerState::kOff);
  EXPECT_TRUE(Call("GET", "/v1/projects").Json()["projects"].empty());
  EXPECT_THAT(Text(home_ / "machine" / "reset.json"), "(none)");
  supervisor_.Clear();  // what it knew was on the disk
  WriteDisk("new");
  EXPECT_EQ(Open()["result"]["status"], "running");
  daemon_.reset();
  StartDaemon();
  EXPECT_EQ(Text(scripted_ / "data.img"), "new") << "the reset was done a second time";
}

TEST_F(MachineResetTest, EndsAnOpenThatHangs) {
  std::atomic<bool> entered{false};
  supervisor_.OnStart([&](grpc::ServerContext& context) -> absl::Status {
    entered = true;
    while (!context.IsCancelled()) {
      absl::SleepFor(absl::Milliseconds(5));
    }
    return absl::CancelledError("cancelled");
  });
  json opened;
  std::thread opening([&] { opened = Open(); });
  while (!entered) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  const absl::Time start = absl::Now();
  EXPECT_TRUE(Call("POST", "/v1/machine/reset").Lines().back().contains("result"));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  opening.join();
  EXPECT_TRUE(opened.contains("error")) << opened;
  EXPECT_TRUE(Call("GET", "/v1/projects").Json()["projects"].empty());
}

// As a vibed leaves it that dies after the point of no return, before anything was taken away.
TEST_F(MachineResetTest, IsFinishedByTheNextVibed) {
  Open();
  Call("POST", "/v1/machine/stop");
  daemon_.reset();
  std::ofstream(home_ / "machine" / "reset.json")
      << R"({"data":["machine/scripted/data.img","machine/scripted/save"]})";
  StartDaemon();
  EXPECT_THAT(Files(), IsEmpty());
  EXPECT_TRUE(Call("GET", "/v1/projects").Json()["projects"].empty());
  EXPECT_THAT(Text(home_ / "machine" / "reset.json"), "(none)");
}

TEST_F(MachineResetTest, DeletesWhatAnEarlierResetOnlySetAside) {
  daemon_.reset();
  dir_.Write("home/machine/scripted/erased-0011223344556677/volume/file", "old");
  StartDaemon();
  EXPECT_THAT(Files(), ElementsAre("data.img"));
}

TEST_F(MachineResetTest, ARecordThatLeadsElsewhereIsRefused) {
  Open();
  Call("POST", "/v1/machine/stop");
  for (const char* path :
       {"../app", "/etc/hosts", "machine/../../app", "projects/x/y", "machine"}) {
    daemon_.reset();
    std::ofstream(home_ / "machine" / "reset.json") << json{{"data", {path}}}.dump();
    StartDaemon();
    EXPECT_TRUE(fs::exists(dir_.path() / "app" / "vibe.yaml")) << path;
    EXPECT_EQ(Call("GET", "/v1/projects").Json()["projects"].size(), 1u) << path;
  }
}

TEST_F(MachineResetTest, TheLogIsBothFilesAsOneAndNeedsNoMachine) {
  std::ofstream(scripted_ / "console.log.1") << "2026-01-31T12:00:00.123Z one\nno time\n";
  std::ofstream(scripted_ / "console.log") << "2026-01-31T12:00:01.123Z three\r\nthe last, cut";
  EXPECT_EQ(Call("GET", "/v1/machine/logs?tail=3").Lines(),
            (std::vector<json>{{{"time", ""}, {"text", "no time"}},
                               {{"time", "2026-01-31T12:00:01.123Z"}, {"text", "three"}},
                               {{"time", ""}, {"text", "the last, cut"}}}));
  EXPECT_THAT(Call("GET", "/v1/machine/logs?tail=0").Lines(), IsEmpty());
  EXPECT_EQ(Call("GET", "/v1/machine/logs?tail=-1").status, 400);
  EXPECT_EQ(machine_.state(), vm::PowerState::kOff);
}

TEST(MachineLog, IsFollowedIntoTheFileThatTakesItsPlace) {
  const TempDir dir;
  const fs::path path = dir.path() / "console.log";
  Cancellation cancel;
  absl::Mutex mutex;
  std::vector<std::string> lines;
  std::thread reader([&] {
    const absl::Status status = ReadMachineLog(
        path, {.tail = 1, .follow = true},
        [&](const json& line) {
          const absl::MutexLock lock(&mutex);
          lines.push_back(line["text"]);
          return absl::OkStatus();
        },
        cancel);
    EXPECT_TRUE(absl::IsCancelled(status)) << status;
  });
  const auto await = [&](size_t count) {
    const absl::MutexLock lock(&mutex);
    const auto there = [&] { return lines.size() >= count; };
    return mutex.AwaitWithTimeout(absl::Condition(&there), absl::Seconds(10));
  };
  dir.Write("console.log", "first\nhal");  // there was none when it began
  EXPECT_TRUE(await(1));
  std::ofstream(path, std::ios::app) << "f\n";
  EXPECT_TRUE(await(2));
  std::ofstream(path, std::ios::app) << "rotated away\n";
  fs::rename(path, path.string() + ".1");
  dir.Write("console.log", "new\n");
  EXPECT_TRUE(await(4));
  cancel.Cancel();
  reader.join();
  EXPECT_THAT(lines, ElementsAre("first", "half", "rotated away", "new"));
}

TEST(MachineLog, WhatIsNoFileIsNoLog) {
  const TempDir dir;
  fs::create_directory(dir.path() / "console.log");
  Cancellation cancel;
  const absl::Status status = ReadMachineLog(
      dir.path() / "console.log", {}, [](const json&) { return absl::OkStatus(); }, cancel);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is not a file"));
}

}  // namespace
}  // namespace vibe::host
