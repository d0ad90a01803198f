#include "init/guest/guest.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "init/child.h"
#include "init/freed_space.h"
#include "init/guest/data_disk.h"
#include "init/guest/modules.h"
#include "init/guest/services.h"
#include "init/guest/uplink.h"
#include "init/log_pipe.h"
#include "init/network.h"
#include "init/worker.h"
#include "vm/native/cgroup.h"
#include "vm/native/layout.h"

namespace vibe::init::guest {
namespace inside = vm::native::inside;
namespace native = vm::native;
namespace {

constexpr char kDisk[] = "disk";
constexpr char kNetwork[] = "network";
constexpr char kDevices[] = "devices";
constexpr char kReader[] = "reader";

// How long each step of the power-off may take: 18 s in all.
constexpr absl::Duration kSupervisorEnd = absl::Seconds(3);
constexpr absl::Duration kServicesEnd = absl::Seconds(8);
constexpr absl::Duration kContainerdEnd = absl::Seconds(3);
constexpr absl::Duration kLastEnd = absl::Seconds(2);
constexpr int kPowerOffPollMs = 5;

absl::Status PrepareDisk(const Settings& settings) {
  VIBE_RETURN_IF_ERROR(LoadModules("disk"));
  return MountDataDisk(settings.data, inside::kData);
}

absl::Status PrepareNetwork(const Settings& settings) {
  VIBE_RETURN_IF_ERROR(SetUpNetwork());
  VIBE_RETURN_IF_ERROR(LoadModules("network"));
  return SetUpUplink(settings);
}

absl::Status PrepareDevices() {
  const absl::Status host = LoadModules("host");
  const absl::Status containers = LoadModules("containers");
  return host.ok() ? containers : host;
}

// The programs that start next, into memory: inflating them takes longer than all else that
// containerd does before it answers, and here a processor is free while btrfs loads.
absl::Status ReadPrograms() {
  std::vector<char> buffer(1 << 20);
  for (const char* program : {"/usr/bin/containerd", kSupervisorProgram}) {
    const UniqueFd file(::open(program, O_RDONLY | O_CLOEXEC));
    while (file.valid() && ::read(file.get(), buffer.data(), buffer.size()) > 0) {
    }
  }
  return absl::OkStatus();
}

native::Cgroup Services() {
  return native::Cgroup({{.mount = "/sys/fs/cgroup", .version2 = true, .options = ""}},
                        inside::kServices + 1);
}

}  // namespace

void Guest::StartWorkers() {
  // containerd waits for the disk, and nothing for the rest until containerd is up.
  running_[kDisk] = StartWorker("data disk", -10, [this] { return PrepareDisk(settings_); });
  running_[kReader] = StartWorker("programs", 0, ReadPrograms);
  running_[kNetwork] = StartWorker("network", 0, [this] { return PrepareNetwork(settings_); });
  running_[kDevices] = StartWorker("kernel modules", 5, PrepareDevices);
  for (auto& [name, pid] : running_) {
    if (pid < 0) {
      failure_ = ErrnoError(errno, absl::StrCat("start the worker ", name));
    }
  }
}

void Guest::WorkerEnded(const std::string& name, bool ok) {
  running_.erase(name);
  timeline_.Mark(name);
  if (name == kDisk) {
    if (!ok) {
      failure_ = absl::FailedPreconditionError("there is no data disk to work with");
      return;
    }
    // Without it only the space on the host comes back later.
    StartWorker("freed space", 19, [] { return KeepTrimmed(inside::kData); });
    absl::StatusOr<Service> containerd = MakeContainerd();
    if (containerd.ok()) {
      containerd_.emplace(*std::move(containerd));
    } else {
      failure_ = containerd.status();
    }
  } else if (name == kNetwork && ok && settings_.uplink == Uplink::kDhcp) {
    StartLeaseKeeper();
  } else if (name == kDevices) {
    button_.Open();
  }
}

void Guest::StartLeaseKeeper() {
  lease_keeper_ = StartWorker("uplink", 0, [this] {
    KeepLease(settings_);
    return absl::OkStatus();
  });
}

void Guest::StartServices(absl::Time now) {
  if (containerd_) {
    containerd_->StartIfDue(now);
    if (containerd_->CheckUp()) {
      timeline_.Mark("containerd");
    }
  }
  // The firewall needs its modules and the uplink's name; and containerd is asked at once.
  if (!supervisor_ && containerd_ && containerd_->up() && Finished(kNetwork) &&
      Finished(kDevices) && ::access(kSupervisorProgram, X_OK) == 0) {
    absl::StatusOr<Service> supervisor = MakeSupervisor(settings_);
    if (supervisor.ok()) {
      supervisor_.emplace(*std::move(supervisor));
    } else {
      failure_ = supervisor.status();
    }
  }
  if (supervisor_) {
    supervisor_->StartIfDue(now);
    if (supervisor_->CheckUp()) {
      timeline_.Mark("supervisor");
    }
  }
}

void Guest::Announce() {
  const bool supervised = ::access(kSupervisorProgram, X_OK) == 0;
  if (announced_ || !containerd_ || !containerd_->up() || !Finished(kNetwork) ||
      !Finished(kDevices) || (supervised && !(supervisor_ && supervisor_->up()))) {
    return;
  }
  announced_ = true;
  vsock_.Open();  // devices that come later are those of a resumed machine
  Say(absl::StrCat("vibe-init: ready: ", timeline_.Text()));
}

absl::Status Guest::Run() {
  StartWorkers();
  while (!power_off_ && failure_.ok()) {
    const absl::Time now = absl::Now();
    StartServices(now);
    Announce();
    absl::Time next = absl::InfiniteFuture();
    for (const std::optional<Service>* service : {&containerd_, &supervisor_}) {
      if (service->has_value()) {
        next = std::min(next, (*service)->NextLook(now));
      }
    }
    Wait(next);
  }
  return failure_;
}

void Guest::Wait(absl::Time until) {
  std::vector<pollfd> polls = {{signals_.get(), POLLIN, 0}};
  for (std::optional<Service>* service : {&containerd_, &supervisor_}) {
    if (service->has_value()) {
      polls.push_back({(*service)->log().read_end(), POLLIN, 0});
    }
  }
  for (const UniqueFd& device : button_.devices()) {
    polls.push_back({device.get(), POLLIN, 0});
  }
  polls.push_back({vsock_.events(), POLLIN, 0});
  polls.push_back({vsock_.call(), 0, 0});
  int timeout = -1;
  if (until < absl::InfiniteFuture()) {
    const absl::Duration left = absl::Ceil(until - absl::Now(), absl::Milliseconds(1));
    timeout = static_cast<int>(std::clamp<int64_t>(absl::ToInt64Milliseconds(left), 0, 60000));
  }
  ::poll(polls.data(), polls.size(), timeout);
  Turn();
}

void Guest::Ended(Service& service, int wait_status) {
  service.log().Pump();
  service.Ended(wait_status, absl::Now(), stopping_);
  if (stopping_) {
    return;
  }
  for (const std::string& line : LastLines(service.name())) {
    Say(absl::StrCat("  ", service.name(), ": ", line));
  }
}

// Everything that waits: signals, the button, logs, ended processes.
void Guest::Turn() {
  for (int signal = NextSignal(signals_); signal != 0; signal = NextSignal(signals_)) {
    power_off_ = power_off_ || signal == SIGTERM || signal == SIGINT;
  }
  power_off_ = button_.Pressed() || power_off_;
  vsock_.Pump();
  for (std::optional<Service>* service : {&containerd_, &supervisor_}) {
    if (service->has_value()) {
      (*service)->log().Pump();
    }
  }
  int status = 0;
  pid_t pid = 0;
  while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) {  // shims and containers come here too
    for (std::optional<Service>* service : {&containerd_, &supervisor_}) {
      if (service->has_value() && pid == (*service)->pid()) {
        Ended(**service, status);
      }
    }
    if (pid == lease_keeper_ && status != 0 && !stopping_) {
      StartLeaseKeeper();
    }
    const auto worker = std::find_if(running_.begin(), running_.end(),
                                     [&](const auto& entry) { return entry.second == pid; });
    if (worker != running_.end()) {
      WorkerEnded(std::string(worker->first), status == 0);
    }
  }
  no_children_ = pid < 0 && errno == ECHILD;
}

bool Guest::WaitUntil(const std::function<bool()>& done, absl::Duration limit) {
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

void Guest::End(Service& service, absl::Duration limit) {
  service.Signal(SIGTERM);
  if (!WaitUntil([&] { return service.pid() == 0; }, limit)) {
    Say(absl::StrCat("vibe-init: ", service.name(), " does not end; it is killed"));
    service.Signal(SIGKILL);
    WaitUntil([&] { return service.pid() == 0; }, kLastEnd);
  }
}

void Guest::Stop() {
  stopping_ = true;
  Say("vibe-init: power off");
  if (supervisor_) {
    End(*supervisor_, kSupervisorEnd);
  }
  // What the supervisor did not stop: databases end well on SIGTERM when they get the time.
  const native::Cgroup services = Services();
  for (const pid_t pid : services.Processes()) {
    ::kill(pid, SIGTERM);
  }
  if (!WaitUntil([&] { return services.Processes().empty(); }, kServicesEnd)) {
    services.Kill(absl::Now() + kLastEnd).IgnoreError();
  }
  if (containerd_) {
    End(*containerd_, kContainerdEnd);
  }
  ::kill(-1, SIGKILL);
  WaitUntil([&] { return no_children_; }, kLastEnd);
  // The logs' files are on the disk that is unmounted next.
  supervisor_.reset();
  containerd_.reset();
}

}  // namespace vibe::init::guest
