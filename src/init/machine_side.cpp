#include "init/machine_side.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "init/child.h"
#include "init/command_lines.h"
#include "init/freed_space.h"
#include "init/log_pipe.h"
#include "init/mounts.h"
#include "init/network.h"
#include "init/service.h"
#include "init/worker.h"

namespace vibe::init {
namespace fs = std::filesystem;
namespace native = vm::native;
namespace inside = vm::native::inside;
namespace {

constexpr int64_t kMaxLogBytes = 4 << 20;
constexpr rlim_t kWantedOpenFiles = 1 << 20;

// How long each step of the power-off may take: 13 s in all.
constexpr absl::Duration kSupervisorEnd = absl::Seconds(3);
constexpr absl::Duration kServicesEnd = absl::Seconds(5);
constexpr absl::Duration kContainerdEnd = absl::Seconds(3);
constexpr absl::Duration kLastEnd = absl::Seconds(2);
constexpr int kPowerOffPollMs = 5;
constexpr absl::Duration kDataLook = absl::Seconds(1);

void RaiseOpenFiles() {
  rlimit limit{kWantedOpenFiles, kWantedOpenFiles};
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0 && ::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

absl::Status SetUp(const Plan& plan) {
  VIBE_RETURN_IF_ERROR(MakeMounts({.layout = plan.layout,
                                   .programs = plan.programs.supervisor.parent_path(),
                                   .mkfs = plan.programs.mkfs,
                                   .hierarchies = plan.hierarchies,
                                   .nameserver = plan.uplink}));
  VIBE_RETURN_IF_ERROR(SetUpNetwork());
  const std::string name = native::CgroupName(plan.layout.directory);
  if (::sethostname(name.data(), name.size()) != 0) {
    return ErrnoError(errno, "set the machine's name");
  }
  RaiseOpenFiles();
  return ReplaceFile(inside::kContainerdConfig, ContainerdConfig());
}

absl::StatusOr<Service> MakeService(std::string name, std::vector<std::string> command,
                                    const fs::path& socket) {
  VIBE_ASSIGN_OR_RETURN(LogPipe log, LogPipe::Make(fs::path(inside::kLogs) / (name + ".log"),
                                                   kMaxLogBytes, LogPipe::Stamp::kNone));
  return Service(std::move(name), std::move(command), socket, std::move(log));
}

class Supervision {
 public:
  Supervision(const Plan& plan, UniqueFd signals, Service containerd, Service supervisor)
      : plan_(plan),
        signals_(std::move(signals)),
        containerd_(std::move(containerd)),
        supervisor_(std::move(supervisor)) {}

  void Run() {
    while (!power_off_) {
      const absl::Time now = absl::Now();
      containerd_.StartIfDue(now);
      if (containerd_.CheckUp()) {
        Mark("containerd");
      }
      // The first time it waits for containerd; later the two come back side by side.
      if (containerd_.up() || supervisor_started_) {
        supervisor_.StartIfDue(now);
        supervisor_started_ = true;
      }
      if (supervisor_.CheckUp()) {
        Mark("supervisor");
      }
      if (DataFailed(now)) {
        Say("the file system of the data failed and takes nothing more; the machine ends, and is "
            "started again when the file that is its disk can be written");
        break;
      }
      absl::Time next = std::min(containerd_.NextLook(now), next_look_);
      if (supervisor_started_) {
        next = std::min(next, supervisor_.NextLook(now));
      }
      Wait(next);
    }
  }

  void PowerOff() {
    Say("power off");
    End(supervisor_, kSupervisorEnd);
    // What the supervisor did not stop: databases end well on SIGTERM when they get the time.
    const absl::StatusOr<std::vector<native::CgroupHierarchy>> hierarchies =
        native::CgroupHierarchies();
    if (hierarchies.ok()) {
      const native::Cgroup services(*hierarchies, inside::kServices + 1);
      for (const pid_t pid : services.Processes()) {
        ::kill(pid, SIGTERM);
      }
      if (!WaitUntil([&] { return services.Processes().empty(); }, kServicesEnd)) {
        services.Kill(absl::Now() + kLastEnd).IgnoreError();
      }
    }
    End(containerd_, kContainerdEnd);
    ::kill(-1, SIGKILL);
    WaitUntil([&] { return no_children_; }, kLastEnd);
    const UniqueFd data(::open(inside::kData, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ::syncfs(data.get());
    Say("off");
  }

 private:
  // btrfs cannot go on after it failed to write its own records, as it does when the host's disk
  // has no room for them. Mounted anew it can.
  bool DataFailed(absl::Time now) {
    if (now < next_look_) {
      return false;
    }
    next_look_ = now + kDataLook;
    struct statvfs data {};
    return ::statvfs(inside::kData, &data) == 0 && (data.f_flag & ST_RDONLY) != 0;
  }

  void Mark(absl::string_view step) {
    if (ready_) {
      Say(absl::StrCat(step, " up again"));
      return;
    }
    ready_ = containerd_.up() && supervisor_.up();
    Say(absl::StrCat(step, ready_ ? " up, machine ready: " : " up: ",
                     MillisecondsSince(plan_.started), " ms after the start"));
  }

  void Wait(absl::Time until) {
    pollfd polls[] = {{signals_.get(), POLLIN, 0},
                      {containerd_.log().read_end(), POLLIN, 0},
                      {supervisor_.log().read_end(), POLLIN, 0}};
    int timeout = -1;
    if (until < absl::InfiniteFuture()) {
      timeout = static_cast<int>(std::clamp<int64_t>(
          absl::ToInt64Milliseconds(absl::Ceil(until - absl::Now(), absl::Milliseconds(1))), 0,
          60000));
    }
    ::poll(polls, std::size(polls), timeout);
    Turn();
  }

  // Everything that waits: signals, ended processes, logs.
  void Turn() {
    for (int signal = NextSignal(signals_); signal != 0; signal = NextSignal(signals_)) {
      power_off_ = power_off_ || signal == SIGTERM || signal == SIGINT;
    }
    containerd_.log().Pump();
    supervisor_.log().Pump();
    int status = 0;
    pid_t pid = 0;
    while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) {  // shims and containers come here too
      for (Service* service : {&containerd_, &supervisor_}) {
        if (pid == service->pid()) {
          service->Ended(status, absl::Now(), power_off_);
        }
      }
    }
    no_children_ = pid < 0 && errno == ECHILD;
  }

  bool WaitUntil(const std::function<bool()>& done, absl::Duration limit) {
    const absl::Time deadline = absl::Now() + limit;
    while (true) {
      Turn();
      if (done()) {
        return true;
      }
      if (absl::Now() >= deadline) {
        return false;
      }
      ::poll(nullptr, 0, kPowerOffPollMs);
    }
  }

  void End(Service& service, absl::Duration limit) {
    service.Signal(SIGTERM);
    if (!WaitUntil([&] { return service.pid() == 0; }, limit)) {
      Say(absl::StrCat(service.name(), " does not end; it is killed"));
      service.Signal(SIGKILL);
      WaitUntil([&] { return service.pid() == 0; }, kLastEnd);
    }
  }

  const Plan& plan_;
  UniqueFd signals_;
  Service containerd_;
  Service supervisor_;
  absl::Time next_look_ = absl::InfinitePast();  // at the data's file system
  bool supervisor_started_ = false;
  bool ready_ = false;  // was both up once
  bool power_off_ = false;
  bool no_children_ = false;
};

absl::StatusOr<Supervision> MakeSupervision(const Plan& plan) {
  VIBE_ASSIGN_OR_RETURN(UniqueFd signals, SignalDescriptor());
  VIBE_ASSIGN_OR_RETURN(Service containerd, MakeService("containerd",
                                                        {plan.programs.containerd.string(),
                                                         "--config", inside::kContainerdConfig},
                                                        inside::kContainerdSocket));
  VIBE_ASSIGN_OR_RETURN(
      Service supervisor,
      MakeService("supervisor", SupervisorCommand(plan.programs, {.uplink = plan.uplink}),
                  fs::path(inside::kHost) / native::kSupervisorSocket));
  return Supervision(plan, std::move(signals), std::move(containerd), std::move(supervisor));
}

void Report(const UniqueFd& report, absl::string_view line) {
  if (::write(report.get(), line.data(), line.size()) < 0) {
    Say("the host's half does not listen");
  }
}

}  // namespace

int RunMachine(const Plan& plan, UniqueFd go, UniqueFd report) {
  // Ends with the host's half, which alone knows how to clear away what is outside. After this the
  // byte: none comes from a host's half that ended before.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  char byte = 0;
  if (::read(go.get(), &byte, 1) != 1) {
    return 1;
  }
  ::umask(022);
  absl::Status status = SetUp(plan);
  if (status.ok()) {
    Say(absl::StrCat("namespaces, mounts, network: ", MillisecondsSince(plan.started), " ms"));
    absl::StatusOr<Supervision> supervision = MakeSupervision(plan);
    status = supervision.status();
    if (status.ok()) {
      Report(report, "ok\n");
      report.reset();
      // Without it only the space on the host comes back later.
      StartWorker("freed space", 19, [] { return KeepTrimmed(inside::kData); });
      supervision->Run();
      supervision->PowerOff();
      Unmount();
      return 0;
    }
  }
  std::string text = absl::StrCat("error: ", status.message(), "\n");
  if (const std::string advice = AdviceOf(status); !advice.empty()) {
    absl::StrAppend(&text, "advice: ", advice, "\n");
  }
  for (const std::string& line : LogOf(status)) {
    Say(line);
  }
  Report(report, text);
  return 1;
}

}  // namespace vibe::init
