// vibe-supervisor as the host sees it: the real program with a real containerd, driven through its
// sockets.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/descriptor.h"
#include "base/file.h"
#include "base/random.h"
#include "base/status.h"
#include "machine_test.h"
#include "relay/stream_header.h"
#include "rpc/status.h"
#include "supervisor_machine.h"

namespace vibe {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::SupervisorMachine;

// Two services: `web` says with its exit whether `db` answered when it was started.
constexpr char kDatabase[] =
    R"({"name":"db","image":"payload:1","command":["/payload","serve","5432","300"],)"
    R"("ports":[{"container":5432,"hostExposure":"none"}]})";
constexpr char kWeb[] =
    R"({"name":"web","image":"payload:1","command":["/payload","call-and-serve","db","5432","8080"],)"
    R"("ports":[{"container":8080}],"dependsOn":["db"]})";

std::string Manifest(const std::vector<std::string>& services) {
  return absl::StrCat(R"({"kind":"vibe.app/v1","id":"com.example.test","name":"Test",)",
                      R"("version":"1.0.0","services":[)", absl::StrJoin(services, ","), "]}");
}

std::string Service(const std::string& name, const std::string& command,
                    const std::string& more = "") {
  return absl::StrCat(R"({"name":")", name, R"(","image":"payload:1","command":[)", command, "]",
                      more, "}");
}

template <typename Predicate>
bool Eventually(Predicate predicate, absl::Duration timeout = absl::Seconds(10)) {
  const absl::Time deadline = absl::Now() + timeout;
  while (absl::Now() < deadline) {
    if (predicate()) {
      return true;
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
  return predicate();
}

class SupervisorTest : public testing::MachineTest {
 protected:
  void EnsureAndOpen(const std::string& id, const std::string& name,
                     const std::vector<std::string>& services) {
    const auto ensured = machine_->Ensure(id, name, Manifest(services), package_);
    ASSERT_TRUE(ensured.ok()) << ensured.status();
    const auto opened = machine_->Open(id);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_TRUE(opened->opened());
  }

  void Start(const std::string& id) {
    const auto started = machine_->StartProject(id);
    ASSERT_TRUE(started.ok()) << started.status();
    ASSERT_EQ(started->status(), v1::STATUS_RUNNING);
  }

  v1::ServiceStatus ServiceOf(const std::string& id, const std::string& name) {
    const auto project = machine_->Get(id);
    if (project.ok()) {
      for (const auto& service : project->services()) {
        if (service.name() == name) {
          return service;
        }
      }
    }
    return {};
  }

  // The first answer of the forward server, then, after "FD\n", what the service says.
  std::string Forward(const std::string& id, const std::string& service, uint16_t port) {
    const auto fd = machine_->Forward();
    if (!fd.ok()) {
      return fd.status().ToString();
    }
    const std::string header = relay::FormatHeader({id, service, port});
    if (::send(fd->get(), header.data(), header.size(), MSG_NOSIGNAL) < 0) {
      return "cannot send";
    }
    std::string answer;
    char buffer[4096];
    UniqueFd service_fd;
    pollfd answered{fd->get(), POLLIN, 0};
    ::poll(&answered, 1, 30'000);
    const ssize_t answer_size = ReceiveWithDescriptor(fd->get(), buffer, sizeof buffer, service_fd);
    answer.append(buffer, static_cast<size_t>(std::max<ssize_t>(answer_size, 0)));
    if (!service_fd.valid()) {
      return answer;
    }
    ::fcntl(service_fd.get(), F_SETFL, 0);  // it came without waiting
    constexpr absl::string_view kSaid = "echo this";
    ::send(service_fd.get(), kSaid.data(), kSaid.size(), MSG_NOSIGNAL);
    ::shutdown(service_fd.get(), SHUT_WR);
    for (ssize_t count = 0; (count = ::read(service_fd.get(), buffer, sizeof buffer)) > 0;) {
      answer.append(buffer, static_cast<size_t>(count));
    }
    return answer;
  }

  struct ExecResult {
    absl::Status status;
    std::string out, err;
    int exit_code = -1;
  };
  ExecResult Exec(const v1::ExecRequest::Start& start, const std::string& input) {
    grpc::ClientContext context;
    const auto stream = machine_->stub().Exec(&context);
    v1::ExecRequest request;
    *request.mutable_start() = start;
    stream->Write(request);
    if (!input.empty()) {
      request.set_stdin(input);
      stream->Write(request);
    }
    request.set_close_stdin(true);
    stream->Write(request);
    ExecResult result;
    v1::ExecResponse response;
    while (stream->Read(&response)) {
      result.out += response.stdout();
      result.err += response.stderr();
      if (response.event_case() == v1::ExecResponse::kExitCode) {
        result.exit_code = static_cast<int>(response.exit_code());
      }
    }
    result.status = rpc::FromGrpc(stream->Finish());
    return result;
  }

  const std::string id_ = RandomUuid();
};

TEST_F(SupervisorTest, AProjectOfTwoServicesStartsInOrderIsReachedAndStops) {
  EnsureAndOpen(id_, "todo", {kWeb, kDatabase});
  const auto fresh = machine_->Get(id_);
  ASSERT_TRUE(fresh.ok());
  EXPECT_EQ(fresh->status(), v1::STATUS_STOPPED);
  EXPECT_EQ(fresh->services(0).name(), "db") << "services are not in dependency order";

  std::vector<v1::Progress> progress;
  const auto started = machine_->StartProject(id_, &progress);
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(started->status(), v1::STATUS_RUNNING);
  std::vector<std::string> ready;
  for (const v1::Progress& step : progress) {
    if (step.phase() == v1::Progress::PHASE_READY) {
      ready.push_back(step.service());
    }
  }
  EXPECT_THAT(ready, ElementsAre("db", "web"));
  EXPECT_EQ(ServiceOf(id_, "web").restart_count(), 0u) << "web was started before db answered";
  EXPECT_TRUE(machine_->StartProject(id_).ok()) << "starting what runs is harmless";

  EXPECT_EQ(Forward(id_, "web", 8080), "FD\nweb\necho this");
  EXPECT_THAT(Forward(id_, "db", 5432), HasSubstr("ERR port 5432 of service db is not exposed"));
  EXPECT_THAT(Forward(id_, "web", 81), HasSubstr("ERR "));
  EXPECT_THAT(Forward(RandomUuid(), "web", 8080), HasSubstr("ERR "));

  const auto stopped = machine_->Stop(id_);
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_EQ(stopped->status(), v1::STATUS_STOPPED);
  EXPECT_THAT(Forward(id_, "web", 8080), HasSubstr("ERR service web does not run"));
  Start(id_);
  EXPECT_EQ(Forward(id_, "web", 8080), "FD\nweb\necho this");
}

TEST_F(SupervisorTest, AServiceThatListensOnIPv6OnlyIsReached) {
  EnsureAndOpen(
      id_, "six",
      {Service("web", R"("/payload","serve6","8080")", R"(,"ports":[{"container":8080}])")});
  Start(id_);
  EXPECT_EQ(Forward(id_, "web", 8080), "FD\nweb\necho this");
}

TEST_F(SupervisorTest, AServiceThatExitsAtOnceIsNamedWithItsLastWords) {
  EnsureAndOpen(id_, "broken", {kDatabase, Service("web", R"("/payload","exit","4")")});
  const auto failed = machine_->StartProject(id_);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(ReasonOf(failed.status()), Reason::kStartFailed) << failed.status();
  EXPECT_EQ(vibe::ServiceOf(failed.status()), "web");
  EXPECT_THAT(failed.status().message(), HasSubstr("code 4"));
  EXPECT_THAT(LogOf(failed.status()), ::testing::UnorderedElementsAre("to stdout", "to stderr"));
  EXPECT_EQ(ServiceOf(id_, "web").status(), v1::STATUS_FAILED);
  EXPECT_EQ(ServiceOf(id_, "db").status(), v1::STATUS_STOPPED);
  // The app's author mends it, and it starts.
  EnsureAndOpen(id_, "broken", {kDatabase, Service("web", R"("/payload","wait")")});
  Start(id_);
}

TEST_F(SupervisorTest, ACommandThatDoesNotExistIsNamed) {
  EnsureAndOpen(id_, "typo", {Service("web", R"("/no-such-program")")});
  const auto failed = machine_->StartProject(id_);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(ReasonOf(failed.status()), Reason::kStartFailed) << failed.status();
  EXPECT_EQ(vibe::ServiceOf(failed.status()), "web");
  EXPECT_THAT(failed.status().message(), HasSubstr("/no-such-program"));
}

TEST_F(SupervisorTest, AServiceThatFailsLaterIsStartedAgain) {
  EnsureAndOpen(id_, "restart", {Service("web", R"("/payload","fail-once","/marker")")});
  Start(id_);
  EXPECT_TRUE(Eventually([&] {
    const auto web = ServiceOf(id_, "web");
    return web.restart_count() == 1 && web.status() == v1::STATUS_RUNNING;
  })) << ServiceOf(id_, "web").DebugString();
}

TEST_F(SupervisorTest, AKilledSupervisorFindsItsServicesRunning) {
  EnsureAndOpen(id_, "survivor", {kWeb, kDatabase});
  Start(id_);
  const auto before = ServiceOf(id_, "web");
  // Start times are recorded beside the start, which does not wait for them.
  const std::filesystem::path recorded =
      machine_->DataDirectory() / "projects" / id_ / "current" / "runtime" / "service-state.json";
  ASSERT_TRUE(Eventually([&] {
    const auto text = ReadFile(recorded, 4096);
    return text.ok() && absl::StrContains(*text, R"("web":{"status":"running")");
  }));
  machine_->KillSupervisor(SIGKILL);
  const absl::Status up = machine_->StartSupervisor();
  ASSERT_TRUE(up.ok()) << up;
  EXPECT_TRUE(Eventually([&] { return ServiceOf(id_, "web").status() == v1::STATUS_RUNNING; }));
  const auto after = ServiceOf(id_, "web");
  EXPECT_EQ(after.started_at().seconds(), before.started_at().seconds())
      << "it was started again instead of taken over";
  EXPECT_EQ(Forward(id_, "web", 8080), "FD\nweb\necho this");
  EXPECT_TRUE(machine_->Stop(id_).ok());
  EXPECT_TRUE(machine_->Delete(id_).ok());
}

TEST_F(SupervisorTest, ATerminatedSupervisorEndsSoonAndLeavesServicesAlone) {
  EnsureAndOpen(id_, "calm", {kWeb, kDatabase});
  Start(id_);
  grpc::ClientContext context;
  v1::GetProjectLogsRequest follow;
  follow.set_id(id_);
  follow.set_follow(true);
  const auto follower = machine_->stub().GetProjectLogs(&context, follow);
  const absl::Time asked = absl::Now();
  machine_->KillSupervisor(SIGTERM);
  EXPECT_LT(absl::Now() - asked, absl::Seconds(2));
  EXPECT_EQ(machine_->containerd().RunningShims() > 0, true);
  context.TryCancel();
  ASSERT_TRUE(machine_->StartSupervisor().ok());
  EXPECT_TRUE(Eventually([&] { return ServiceOf(id_, "web").status() == v1::STATUS_RUNNING; }));
}

TEST_F(SupervisorTest, AKilledContainerdDoesNotStopServicesNorHealth) {
  EnsureAndOpen(id_, "tough", {kWeb, kDatabase});
  Start(id_);
  machine_->containerd().Kill();
  const absl::Time asked = absl::Now();
  v1::HealthResponse health;
  EXPECT_TRUE(Eventually([&] {
    grpc::ClientContext context;
    return machine_->stub().Health(&context, {}, &health).ok() && !health.containerd_ok();
  }));
  EXPECT_LT(absl::Now() - asked, absl::Seconds(1));
  EXPECT_EQ(Forward(id_, "web", 8080), "FD\nweb\necho this");
  ASSERT_TRUE(machine_->containerd().Restart().ok());
  EXPECT_TRUE(Eventually([&] {
    grpc::ClientContext again;
    return machine_->stub().Health(&again, {}, &health).ok() && health.containerd_ok();
  }));
  EXPECT_EQ(ServiceOf(id_, "web").status(), v1::STATUS_RUNNING);
  EXPECT_EQ(ServiceOf(id_, "web").restart_count(), 0u);
  EXPECT_TRUE(machine_->Stop(id_).ok());
}

TEST_F(SupervisorTest, LogsHaveTheirTailAndAreFollowedInOrder) {
  EnsureAndOpen(
      id_, "chatty",
      {Service("a", R"("/payload","print","200")"), Service("b", R"("/payload","print","3")")});
  Start(id_);
  ASSERT_TRUE(Eventually([&] {
    const auto lines = machine_->Logs(id_, "", 1000);
    return lines.ok() && lines->size() == 205;  // each says "ready" as well
  }));
  const auto lines = machine_->Logs(id_, "a", 10);
  ASSERT_TRUE(lines.ok()) << lines.status();
  ASSERT_EQ(lines->size(), 10u);
  EXPECT_EQ(lines->front().text(), "line 191");
  EXPECT_EQ(lines->back().text(), "ready");
  EXPECT_EQ(lines->back().service(), "a");
  EXPECT_EQ(lines->back().stream(), v1::LogLine::STREAM_STDOUT);
  EXPECT_FALSE(machine_->Logs(id_, "nobody", 10).ok());

  grpc::ClientContext context;
  v1::GetProjectLogsRequest request;
  request.set_id(id_);
  request.set_follow(true);
  request.set_tail(1);
  const auto reader = machine_->stub().GetProjectLogs(&context, request);
  v1::GetProjectLogsResponse response;
  ASSERT_TRUE(reader->Read(&response));
  std::thread stopper([&] { machine_->Stop(id_).status().IgnoreError(); });
  std::vector<std::string> seen;
  while (seen.size() < 2 && reader->Read(&response)) {
    for (const auto& line : response.lines()) {
      seen.push_back(line.text());
    }
  }
  context.TryCancel();
  stopper.join();
  EXPECT_THAT(seen, ElementsAre("terminated", "terminated"));
}

TEST_F(SupervisorTest, FollowersDoNotStarveOtherCalls) {
  EnsureAndOpen(id_, "popular", {Service("web", R"("/payload","wait")")});
  Start(id_);
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GetProjectLogsResponse>>> followers;
  v1::GetProjectLogsRequest request;
  request.set_id(id_);
  request.set_follow(true);
  for (int i = 0; i < 40; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    followers.push_back(machine_->stub().GetProjectLogs(contexts.back().get(), request));
  }
  const absl::Time asked = absl::Now();
  EXPECT_TRUE(machine_->Get(id_).ok());
  EXPECT_LT(absl::Now() - asked, absl::Seconds(1));
  for (const auto& context : contexts) {
    context->TryCancel();
  }
}

TEST_F(SupervisorTest, ACommandRunsInAServiceWithItsStreamsAndExitCode) {
  EnsureAndOpen(id_, "exec", {Service("web", R"("/payload","wait")", R"(,"env":{"MODE":"test"})")});
  Start(id_);
  v1::ExecRequest::Start start;
  start.set_id(id_);
  for (const char* word : {"/payload", "exit", "42"}) {
    start.add_command(word);
  }
  ExecResult result = Exec(start, "");
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.exit_code, 42);
  EXPECT_EQ(result.out, "to stdout\n");
  EXPECT_EQ(result.err, "to stderr\n");

  // More than any pipe holds goes in and comes out.
  start.clear_command();
  start.add_command("/payload");
  start.add_command("echo");
  std::string input(900 << 10, 'x');
  result = Exec(start, input);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out.size(), input.size());
  EXPECT_EQ(result.err, "end of input\n");

  start.clear_command();
  start.add_command("/payload");
  start.add_command("id");
  start.set_user("33:44");
  EXPECT_EQ(Exec(start, "").out, "33 44 test\n");
  start.clear_user();

  start.set_command(1, "terminal");
  start.set_tty(true);
  start.set_columns(132);
  start.set_rows(43);
  EXPECT_THAT(Exec(start, "").out, HasSubstr("132 columns, 43 rows"));
  start.set_tty(false);

  start.set_command(0, "/nothing");
  result = Exec(start, "");
  EXPECT_TRUE(absl::IsInvalidArgument(result.status)) << result.status;
  EXPECT_EQ(machine_->Traces()["run/exec"], "") << "fifos were left";
}

TEST_F(SupervisorTest, ACommandEndsWithItsCaller) {
  EnsureAndOpen(id_, "gone", {Service("web", R"("/payload","wait")")});
  Start(id_);
  grpc::ClientContext context;
  const auto stream = machine_->stub().Exec(&context);
  v1::ExecRequest request;
  request.mutable_start()->set_id(id_);
  request.mutable_start()->add_command("/payload");
  request.mutable_start()->add_command("wait");
  stream->Write(request);
  v1::ExecResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.stdout(), "ready\n");
  context.TryCancel();
  EXPECT_TRUE(Eventually([&] { return machine_->Traces()["run/exec"].empty(); }))
      << "the command runs on";
  EXPECT_EQ(ServiceOf(id_, "web").status(), v1::STATUS_RUNNING);
}

TEST_F(SupervisorTest, AFullDiskIsOneClearError) {
  machine_.reset();
  constexpr uint64_t kDisk = 256 << 20, kLeft = 700 << 10;
  auto machine = SupervisorMachine::Start({.disk_bytes = kDisk, .network = true, .btrfs = true});
  ASSERT_TRUE(machine.ok()) << machine.status();
  machine_ = *std::move(machine);
  const auto package = machine_->ImportPayload();
  ASSERT_TRUE(package.ok()) << package.status();
  ASSERT_TRUE(machine_->Ensure(id_, "full", Manifest({kDatabase}), *package).ok());
  const std::filesystem::path filler = machine_->DataDirectory() / "filler";
  {
    std::ofstream file(filler, std::ios::binary);
    const std::string block(64 << 10, 'x');
    while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  std::filesystem::resize_file(filler, std::filesystem::file_size(filler) - kLeft);
  const absl::Status status = machine_->Open(id_).status();
  EXPECT_EQ(ReasonOf(status), Reason::kDiskLow) << status;
  EXPECT_THAT(status.message(), HasSubstr("free"));
  v1::SaveSnapshotRequest save;
  save.set_id(id_);
  EXPECT_EQ(ReasonOf(machine_->Save(save).status()), Reason::kDiskLow);
  std::filesystem::remove(filler);
  EXPECT_TRUE(machine_->Save(save).ok());
  const auto opened = machine_->Open(id_);
  EXPECT_TRUE(opened.ok()) << opened.status();
  Start(id_);
  EXPECT_TRUE(machine_->Delete(id_).ok());
}

TEST_F(SupervisorTest, ManyRoundsLeaveNothingBehind) {
  int rounds = 50;
  if (const char* wanted = std::getenv("VIBE_TEST_ROUNDS"); wanted != nullptr) {
    ASSERT_TRUE(absl::SimpleAtoi(wanted, &rounds));
  }
  std::vector<absl::Duration> starts;
  const auto round = [&](int number) {
    const std::string id = RandomUuid();
    const auto package = machine_->ImportPayload();
    ASSERT_TRUE(package.ok()) << package.status();
    package_ = *package;
    EnsureAndOpen(id, absl::StrCat("round-", number),
                  {kWeb, Service("db", R"("/payload","serve","5432")",
                                 R"(,"ports":[{"container":5432,"hostExposure":"none"}])")});
    const absl::Time begun = absl::Now();
    Start(id);
    starts.push_back(absl::Now() - begun);
    const auto stopped = machine_->Stop(id);
    ASSERT_TRUE(stopped.ok()) << stopped.status();
    const absl::Status deleted = machine_->Delete(id);
    ASSERT_TRUE(deleted.ok()) << deleted;
  };
  round(0);  // makes what stays: the firewall's table, folders, connections
  const auto before = machine_->Traces();
  const int files = machine_->OpenFiles();
  for (int number = 1; number <= rounds && !HasFatalFailure(); ++number) {
    round(number);
  }
  for (const auto& [kind, traces] : machine_->Traces()) {
    EXPECT_EQ(traces, before.at(kind)) << kind << " were left";
  }
  EXPECT_LE(machine_->OpenFiles(), files) << "file descriptors were left";
  std::sort(starts.begin(), starts.end());
  std::cout << "start of two services: median " << starts[starts.size() / 2] << ", fastest "
            << starts.front() << "\n";
}

}  // namespace
}  // namespace vibe
