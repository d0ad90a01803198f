#include "machine_fixture.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "rpc/ports.h"
#include "vibe/v1/supervisor.grpc.pb.h"
#include "vm/native/run_record.h"

namespace vibe::vm::native::testing {
namespace fs = std::filesystem;
namespace {

std::string Read(const fs::path& path) {
  const absl::StatusOr<std::string> text = ReadFile(path, 16 << 20);
  return text.ok() ? *text : "";
}

std::vector<pid_t> AllProcesses() {
  std::vector<pid_t> pids;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    pid_t pid = 0;
    if (absl::SimpleAtoi(entry.path().filename().string(), &pid)) {
      pids.push_back(pid);
    }
  }
  return pids;
}

std::vector<pid_t> Children(pid_t pid) {
  std::vector<pid_t> children;
  for (absl::string_view child :
       absl::StrSplit(Read(absl::StrCat("/proc/", pid, "/task/", pid, "/children")), ' ')) {
    pid_t number = 0;
    if (absl::SimpleAtoi(child, &number)) {
      children.push_back(number);
    }
  }
  return children;
}

pid_t ChildNamed(pid_t parent, const std::string& name) {
  for (const pid_t pid : Children(parent)) {
    // The kernel keeps 15 bytes of a name.
    if (Read(absl::StrCat("/proc/", pid, "/comm")) == name.substr(0, 15) + "\n") {
      return pid;
    }
  }
  return 0;
}

}  // namespace

bool Eventually(const std::function<bool()>& condition, absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  while (!condition()) {
    if (absl::Now() > deadline) {
      return false;
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  return true;
}

std::string Namespace(pid_t pid, const std::string& kind) {
  std::error_code error;
  return fs::read_symlink(absl::StrCat("/proc/", pid, "/ns/", kind), error).string();
}

UniqueFd KeepNamespace(pid_t pid, const std::string& kind) {
  return UniqueFd(::open(absl::StrCat("/proc/", pid, "/ns/", kind).c_str(), O_RDONLY | O_CLOEXEC));
}

std::vector<pid_t> ProcessesIn(const std::string& ns, const std::string& kind) {
  std::vector<pid_t> pids;
  for (const pid_t pid : AllProcesses()) {
    if (Namespace(pid, kind) == ns) {
      pids.push_back(pid);
    }
  }
  return pids;
}

Subject::Subject(fs::path directory, std::vector<std::string> init_arguments)
    : options_{.directory = directory,
               .init_program = fs::path(VIBE_TEST_BIN_DIR) / "vibe-native-init",
               .init_arguments = std::move(init_arguments),
               .disk_bytes = [this] { return disk_bytes_; }},
      layout_{std::move(directory)},
      machine_(AnotherHost()) {}

Subject::~Subject() {
  machine_->Kill().IgnoreError();
}

std::unique_ptr<NativeMachine> Subject::AnotherHost() const {
  return std::make_unique<NativeMachine>(options_);
}

absl::Status Subject::Health() const {
  VIBE_ASSIGN_OR_RETURN(UniqueFd stream, machine_->Dial(rpc::kSupervisorPort));
  const auto channel = grpc::CreateInsecureChannelFromFd("machine", stream.release());
  const auto stub = v1::Supervisor::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(2));
  v1::ListProjectsResponse response;
  const grpc::Status status = stub->ListProjects(&context, v1::ListProjectsRequest(), &response);
  return status.ok() ? absl::OkStatus() : absl::UnavailableError(status.error_message());
}

bool Subject::Boots() {
  const absl::Status status = machine_->Start();
  EXPECT_TRUE(status.ok()) << status;
  const bool well = status.ok() && Eventually([&] { return Health().ok(); });
  EXPECT_TRUE(well) << Console() << Read(layout_.logs() / "containerd.log")
                    << Read(layout_.logs() / "supervisor.log");
  return well;
}

pid_t Subject::HostHalf() const {
  const auto record = ParseRecord(Read(layout_.record()));
  return record.ok() && OpenProcess(*record).ok() ? record->pid : 0;
}

pid_t Subject::MachineHalf() const {
  const pid_t host = HostHalf();
  return host == 0 ? 0 : ChildNamed(host, "vibe-native-init");
}

pid_t Subject::Find(const std::string& program) const {
  const pid_t machine = MachineHalf();
  return machine == 0 ? 0 : ChildNamed(machine, program);
}

SubprocessResult Subject::Inside(std::vector<std::string> command) const {
  SubprocessOptions options{
      .args = {"nsenter", "-t", absl::StrCat(MachineHalf()), "-a"}, .input = "", .env = {}};
  options.args.insert(options.args.end(), command.begin(), command.end());
  const absl::StatusOr<SubprocessResult> result = RunSubprocess(options);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *result : SubprocessResult{.exit_code = -1, .out = "", .err = ""};
}

std::string Subject::Console() const {
  return Read(layout_.console_log());
}

std::vector<fs::path> Subject::Cgroups() const {
  std::vector<fs::path> found;
  const auto hierarchies = CgroupHierarchies();
  for (const CgroupHierarchy& hierarchy :
       hierarchies.ok() ? *hierarchies : std::vector<CgroupHierarchy>()) {
    const fs::path group = hierarchy.mount / CgroupName(layout_.directory);
    std::error_code error;
    if (fs::exists(group, error)) {
      found.push_back(group);
    }
  }
  return found;
}

std::string Subject::LoopDevice() const {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/sys/block", error)) {
    if (Read(entry.path() / "loop" / "backing_file") == layout_.disk().string() + "\n") {
      return entry.path().filename();
    }
  }
  return "";
}

std::vector<std::string> Subject::Leftovers() const {
  std::vector<std::string> left;
  for (const fs::path& cgroup : Cgroups()) {
    left.push_back(cgroup);
  }
  for (const pid_t pid : AllProcesses()) {
    const std::string command = Read(absl::StrCat("/proc/", pid, "/cmdline"));
    if (absl::StrContains(command, layout_.directory.string()) && pid != getpid() &&
        RecordOf(pid).ok()) {
      left.push_back(absl::StrCat("process ", pid));
    }
  }
  if (absl::StrContains(Read("/proc/self/mountinfo"), layout_.directory.string())) {
    left.push_back("a mount");
  }
  if (const std::string loop = LoopDevice(); !loop.empty()) {
    left.push_back(loop);
  }
  for (const char* file : {"pid", "run/supervisor.sock", "run/forward.sock"}) {
    std::error_code error;
    if (fs::exists(layout_.directory / file, error)) {
      left.push_back(file);
    }
  }
  return left;
}

void NativeMachineTest::SetUp() {
  if (geteuid() != 0) {
    GTEST_SKIP() << "the native machine needs root";
  }
  char directory[] = "/tmp/vibe-machine-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  directory_ = directory;
}

void NativeMachineTest::TearDown() {
  subjects_.clear();
  if (!directory_.empty()) {
    EXPECT_TRUE(RemoveAll(directory_).ok());
  }
}

Subject& NativeMachineTest::Make(const std::string& name, std::vector<std::string> init_arguments) {
  subjects_.push_back(std::make_unique<Subject>(directory_ / name, std::move(init_arguments)));
  return *subjects_.back();
}

}  // namespace vibe::vm::native::testing
