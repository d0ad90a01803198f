#include "supervisor/service_container.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "spdlog/spdlog.h"
#include "supervisor/rootfs.h"
#include "supervisor/runtime_spec.h"

namespace vibe::supervisor {
namespace {

constexpr absl::string_view kRuntimeFailed = "OCI runtime create failed: ";
constexpr char kStopSignalLabel[] = "vibe.app/stop-signal";
// How long the kernel may take to end a process after SIGKILL: one that waits for a dead disk takes
// long.
constexpr absl::Duration kKillTimeout = absl::Seconds(10);
// After that a user wonders why a stop takes so long.
constexpr absl::Duration kResists = absl::Seconds(2);

int SignalNumber(absl::string_view name) {
  static constexpr std::pair<absl::string_view, int> kSignals[] = {
      {"TERM", SIGTERM}, {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"HUP", SIGHUP},
      {"KILL", SIGKILL}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"WINCH", SIGWINCH}};
  int number = 0;
  if (absl::SimpleAtoi(name, &number) && number > 0 && number < 65) {
    return number;
  }
  absl::ConsumePrefix(&name, "SIG");
  for (const auto& [signal_name, value] : kSignals) {
    if (name == signal_name) {
      return value;
    }
  }
  return SIGTERM;
}

std::string PercentEncode(absl::string_view text) {
  std::string encoded;
  for (const char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '/' || c == '-' || c == '_' ||
        c == '.') {
      encoded.push_back(c);
    } else {
      constexpr char kHex[] = "0123456789ABCDEF";
      encoded.push_back('%');
      encoded.push_back(kHex[static_cast<unsigned char>(c) >> 4]);
      encoded.push_back(kHex[static_cast<unsigned char>(c) & 15]);
    }
  }
  return encoded;
}

// What the runtime said, without the names of those who passed it on, and what to do about it.
absl::Status ExplainRuntime(const absl::Status& status, const std::string& image) {
  const absl::string_view whole = status.message();
  const size_t start = whole.find(kRuntimeFailed);
  if (start == absl::string_view::npos) {
    return status;
  }
  absl::string_view said = whole.substr(start + kRuntimeFailed.size());
  absl::ConsumeSuffix(&said, ": unknown");
  absl::Status explained(status.code(), said);
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    explained.SetPayload(url, payload);
  });
  const bool no_program =
      absl::StrContains(said, "not found in $PATH") || absl::StrContains(said, "executable file");
  return no_program
             ? WithAdvice(explained, absl::StrCat("check the service's command and entrypoint "
                                                  "against what is in the image ",
                                                  image))
             : explained;
}

// Makes the folders that the plan's mounts need. A volume that is new takes the owner and mode of
// the folder that the image has in its place, as users of named volumes expect; without one, the
// service's user owns it.
absl::Status MakeMountSources(const PlannedService& service, const ResolvedUser& user,
                              const std::vector<std::string>& layers) {
  for (const std::string& directory : service.directories) {
    VIBE_RETURN_IF_ERROR(MakeDirectories(std::filesystem::path(directory).parent_path()));
    if (::mkdir(directory.c_str(), 0755) != 0) {
      if (errno == EEXIST) {
        continue;
      }
      return ErrnoError(errno, absl::StrCat("mkdir ", directory));
    }
    for (const PlannedMount& mount : service.mounts) {
      if (mount.type != "bind" || mount.source != directory) {
        continue;
      }
      const Ownership owner =
          DirectoryOwnership(layers, mount.target).value_or(Ownership{user.uid, user.gid, 0755});
      if (::chown(directory.c_str(), owner.uid, owner.gid) != 0 ||
          ::chmod(directory.c_str(), owner.mode) != 0) {
        return ErrnoError(errno, absl::StrCat("set the owner of ", directory));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

ServiceContainer::ServiceContainer(const Platform& platform, const Plan& plan,
                                   const PlannedService& service, std::filesystem::path log_file,
                                   std::filesystem::path secrets_file)
    : platform_(platform),
      namespace_(plan.containerd_namespace),
      project_index_(plan.network_index),
      pool_(plan.pool),
      service_(service),
      log_file_(std::move(log_file)),
      secrets_file_(std::move(secrets_file)) {}

network::Endpoint ServiceContainer::endpoint() const {
  return {.name = service_.netns,
          .project_index = project_index_,
          .service_index = service_.service_index,
          .pool = pool_};
}

absl::Status ServiceContainer::Create(const std::map<std::string, std::string>& secrets) {
  const absl::Time begun = absl::Now();
  // The network takes as long as all the rest. The task only needs the namespace, not what is
  // attached to it.
  absl::Notification joinable;
  std::future<absl::Status> network = std::async(std::launch::async, [&] {
    const absl::Status added =
        network::AddEndpoint(platform_.network, endpoint(), [&] { joinable.Notify(); }).status();
    if (!joinable.HasBeenNotified()) {
      joinable.Notify();
    }
    return Annotate(added, "connect to the project's network");
  });
  std::vector<containerd::Mount> rootfs;
  absl::Status status = CreateContainer(secrets, rootfs);
  const absl::Time made = absl::Now();
  joinable.WaitForNotification();
  const absl::Time joined = absl::Now();
  if (status.ok()) {
    status = CreateTask(rootfs);
  }
  const absl::Time created = absl::Now();
  // When there is no network, that is the reason why there is no task.
  if (const absl::Status connected = network.get(); !connected.ok()) {
    status = connected;
  }
  spdlog::debug(
      "create {}/{}: snapshot and container {:.1f} ms, network namespace {:.1f} ms more, "
      "task {:.1f} ms, network {:.1f} ms more",
      namespace_, service_.name, absl::ToDoubleMilliseconds(made - begun),
      absl::ToDoubleMilliseconds(joined - made), absl::ToDoubleMilliseconds(created - joined),
      absl::ToDoubleMilliseconds(absl::Now() - created));
  if (!status.ok()) {
    Remove().IgnoreError();  // the first error is the one that the user can act on
  }
  return status;
}

absl::Status ServiceContainer::CreateContainer(const std::map<std::string, std::string>& secrets,
                                               std::vector<containerd::Mount>& rootfs) {
  containerd::Client& client = platform_.containerd;
  VIBE_ASSIGN_OR_RETURN(const images::InspectedImage image,
                        platform_.images.Inspect(namespace_, service_.image));
  // Until the container refers to it, only the label keeps it from containerd's garbage collector.
  const auto prepare = [&] {
    return client.PrepareSnapshot(namespace_, "", service_.container_id, image.chain_id,
                                  {{"containerd.io/gc.root", "true"}});
  };
  auto prepared = prepare();
  if (absl::IsAlreadyExists(prepared.status())) {
    // Of a start that was killed before its container was made.
    VIBE_RETURN_IF_ERROR(client.RemoveSnapshot(namespace_, service_.container_id));
    prepared = prepare();
  }
  VIBE_ASSIGN_OR_RETURN(rootfs, std::move(prepared));
  const std::vector<std::string> layers = LayerDirectories(rootfs);
  const std::string user = service_.user.empty() ? image.config.user : service_.user;
  VIBE_ASSIGN_OR_RETURN(
      const ResolvedUser resolved,
      ResolveUser(user, ReadImageFile(layers, "etc/passwd"), ReadImageFile(layers, "etc/group")));
  VIBE_RETURN_IF_ERROR(MakeMountSources(service_, resolved, layers));
  VIBE_RETURN_IF_ERROR(WriteSecrets(secrets));
  PlannedService service = service_;
  for (const PlannedMount& mount : service_.default_settings) {
    if (!HasSettings(layers, mount.target)) {
      service.mounts.push_back(mount);
    }
  }
  VIBE_ASSIGN_OR_RETURN(std::string spec, RuntimeSpec(service, image.config, resolved, secrets));
  return client.CreateContainer(namespace_,
                                {.id = service_.container_id,
                                 .image = service_.image,
                                 .snapshot_key = service_.container_id,
                                 .spec_json = std::move(spec),
                                 .labels = {{kStopSignalLabel, image.config.stop_signal}}});
}

// One value after another, each ended by a zero byte: docs/formats/logs.md.
absl::Status ServiceContainer::WriteSecrets(
    const std::map<std::string, std::string>& secrets) const {
  ::unlink(secrets_file_.c_str());
  if (secrets.empty()) {
    return absl::OkStatus();
  }
  std::string values;
  for (const auto& [name, value] : secrets) {
    absl::StrAppend(&values, value, absl::string_view("\0", 1));
  }
  const UniqueFd file(::open(secrets_file_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid() ||
      ::write(file.get(), values.data(), values.size()) != static_cast<ssize_t>(values.size())) {
    return ErrnoError(errno, absl::StrCat("write ", secrets_file_.string()));
  }
  return absl::OkStatus();
}

absl::Status ServiceContainer::CreateTask(const std::vector<containerd::Mount>& rootfs) {
  VIBE_RETURN_IF_ERROR(MakeDirectories(log_file_.parent_path()));
  std::string log_uri = absl::StrCat("binary://", PercentEncode(platform_.logger),
                                     "?file=", PercentEncode(log_file_.string()));
  if (std::error_code error; std::filesystem::exists(secrets_file_, error)) {
    absl::StrAppend(&log_uri, "&secrets=", PercentEncode(secrets_file_.string()));
  }
  const auto pid = platform_.containerd.CreateTask(
      namespace_, service_.container_id, rootfs,
      {.stdin_path = "", .stdout_uri = log_uri, .stderr_uri = log_uri, .terminal = false});
  return ExplainRuntime(pid.status(), service_.image);
}

absl::Status ServiceContainer::Start() {
  return platform_.containerd.StartTask(namespace_, service_.container_id);
}

void ServiceContainer::FlushLog() {
  const auto task = platform_.containerd.GetTask(namespace_, service_.container_id);
  if (task.ok() && task->status == containerd::TaskStatus::kStopped) {
    platform_.containerd.DeleteTask(namespace_, service_.container_id).IgnoreError();
  }
}

absl::Status ServiceContainer::Recreate() {
  containerd::Client& client = platform_.containerd;
  VIBE_RETURN_IF_ERROR(Stop(absl::ZeroDuration()));  // one that was made but not started
  VIBE_RETURN_IF_ERROR(client.DeleteTask(namespace_, service_.container_id));
  VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Mount> mounts,
                        client.SnapshotMounts(namespace_, service_.container_id));
  VIBE_RETURN_IF_ERROR(network::AddEndpoint(platform_.network, endpoint()).status());
  return CreateTask(mounts);
}

absl::Status ServiceContainer::Stop(absl::Duration timeout,
                                    const std::function<void(absl::Duration left)>& resists) {
  containerd::Client& client = platform_.containerd;
  const auto task = client.GetTask(namespace_, service_.container_id);
  if (absl::IsNotFound(task.status())) {
    return absl::OkStatus();
  }
  VIBE_RETURN_IF_ERROR(task.status());
  if (task->status == containerd::TaskStatus::kStopped) {
    return absl::OkStatus();
  }
  if (task->status == containerd::TaskStatus::kRunning && timeout > absl::ZeroDuration()) {
    VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Container> containers,
                          client.ListContainers(namespace_));
    int signal = SIGTERM;
    for (const containerd::Container& container : containers) {
      const auto label = container.labels.find(kStopSignalLabel);
      if (container.id == service_.container_id && label != container.labels.end()) {
        signal = SignalNumber(label->second);
      }
    }
    VIBE_RETURN_IF_ERROR(client.KillTask(namespace_, service_.container_id, signal, false));
    auto exited = client.WaitTask(namespace_, service_.container_id, std::min(timeout, kResists));
    if (absl::IsDeadlineExceeded(exited.status()) && timeout > kResists) {
      resists(timeout - kResists);
      exited = client.WaitTask(namespace_, service_.container_id, timeout - kResists);
    }
    if (exited.ok() || absl::IsNotFound(exited.status())) {
      return absl::OkStatus();
    }
    if (!absl::IsDeadlineExceeded(exited.status())) {
      return exited.status();
    }
  }
  VIBE_RETURN_IF_ERROR(client.KillTask(namespace_, service_.container_id, SIGKILL, true));
  const auto killed = client.WaitTask(namespace_, service_.container_id, kKillTimeout);
  return absl::IsNotFound(killed.status()) ? absl::OkStatus() : killed.status();
}

absl::StatusOr<uint32_t> ServiceContainer::Pid() {
  VIBE_ASSIGN_OR_RETURN(const containerd::Task task,
                        platform_.containerd.GetTask(namespace_, service_.container_id));
  return task.pid;
}

absl::Status ServiceContainer::Remove() {
  containerd::Client& client = platform_.containerd;
  VIBE_RETURN_IF_ERROR(Stop(absl::ZeroDuration()));
  VIBE_RETURN_IF_ERROR(client.DeleteTask(namespace_, service_.container_id));
  VIBE_RETURN_IF_ERROR(client.DeleteContainer(namespace_, service_.container_id));
  VIBE_RETURN_IF_ERROR(client.RemoveSnapshot(namespace_, service_.container_id));
  return network::RemoveEndpoint(platform_.network, endpoint());
}

absl::StatusOr<uint32_t> ServiceContainer::Exec(const std::vector<std::string>& args,
                                                absl::Duration timeout) {
  containerd::Client& client = platform_.containerd;
  VIBE_ASSIGN_OR_RETURN(const std::string spec, SpecOf(client, namespace_, service_.container_id));
  const std::string id = absl::StrCat("check-", RandomHex(6));
  VIBE_RETURN_IF_ERROR(client.ExecTask(namespace_, service_.container_id, id,
                                       ExecProcess(spec, args, {}, "", false), {}));
  absl::StatusOr<uint32_t> exit_code = 0;
  if (absl::Status started = client.StartTask(namespace_, service_.container_id, id);
      !started.ok()) {
    exit_code = started;
  } else {
    exit_code = client.WaitTask(namespace_, service_.container_id, timeout, id);
  }
  if (absl::IsDeadlineExceeded(exit_code.status())) {
    client.KillTask(namespace_, service_.container_id, SIGKILL, true, id).IgnoreError();
    client.WaitTask(namespace_, service_.container_id, kKillTimeout, id).status().IgnoreError();
  }
  client.DeleteExec(namespace_, service_.container_id, id).IgnoreError();
  return exit_code;
}

absl::StatusOr<std::string> SpecOf(containerd::Client& client, const std::string& ns,
                                   const std::string& container_id) {
  VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Container> containers,
                        client.ListContainers(ns));
  for (const containerd::Container& container : containers) {
    if (container.id == container_id) {
      return container.spec_json;
    }
  }
  return absl::NotFoundError(absl::StrCat("there is no container ", container_id));
}

}  // namespace vibe::supervisor
