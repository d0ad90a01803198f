// vibe-supervisor: the machine's side of Vibe. Logs to stderr. SIGTERM ends it within two seconds;
// containers run on, and the next supervisor takes them over.
#include <grpcpp/grpcpp.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "rpc/status.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"
#include "state/disk_reserve.h"
#include "state/sqlite_files.h"
#include "supervisor/door.h"
#include "supervisor/forward_server.h"
#include "supervisor/grpc_service.h"
#include "supervisor/machine_secret.h"
#include "supervisor/rpc_server.h"
#include "supervisor/supervisor.h"
#include "supervisor/version.h"

namespace vibe::supervisor {
namespace {

constexpr rlim_t kMaxOpenFiles = 20'000;
constexpr absl::Duration kGrace = absl::Milliseconds(300);
// A call that waits for the disk or a registry does not end for our sake.
constexpr absl::Duration kLastResort = absl::Milliseconds(1700);

struct Arguments {
  Supervisor::Options supervisor;
  std::vector<std::string> listen, forward, blocked;
  std::string host_gateway;
  std::string log_level = "info";
};

void Define(CLI::App& app, Arguments& arguments) {
  Supervisor::Options& options = arguments.supervisor;
  app.set_version_flag("--version", kVersion);
  app.add_option("--data", options.data, "folder for what persists")->required();
  app.add_option("--run", options.run, "folder for what goes with a reboot")->required();
  app.add_option("--containerd", options.containerd_socket, "containerd's socket")->required();
  app.add_option("--runtime", options.runtime, "path of crun or runc");
  app.add_option("--logger", options.logger, "path of vibe-logger")->required();
  app.add_option("--cgroup", options.cgroup, "parent of the services' cgroups")
      ->default_val("/vibe");
  app.add_option("--cni", options.cni_plugins, "folder of the CNI plugins")
      ->default_val("/usr/lib/cni");
  app.add_option("--disk-host", options.disk_host,
                 "folder on the file system that holds the data disk's file");
  app.add_option("--listen", arguments.listen,
                 "address for gRPC: unix:PATH, vsock:PORT, tcp:PORT or serial:NAME")
      ->required();
  app.add_option("--forward", arguments.forward, "address for forwarded connections")->required();
  app.add_option("--host-gateway", arguments.host_gateway,
                 "what localhost in an image's reference means");
  app.add_option("--blocked", arguments.blocked, "range of addresses that no service may reach");
  app.add_option("--uplink", options.firewall.uplink, "interface that leads to the internet");
  app.add_option("--nameserver", options.firewall.nameservers, "address of a name server");
  app.add_option("--log-level", arguments.log_level, "trace, debug, info, warning, error")
      ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error"}));
}

// Threads come and go with projects and calls: with an arena of the allocator for each, what they
// leave behind adds up to more than what is used.
void ShareMemory() {
#ifdef M_ARENA_MAX
  ::mallopt(M_ARENA_MAX, 2);
#endif
}

void RaiseOpenFiles() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = std::min(limit.rlim_max, kMaxOpenFiles);
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

// Answers for a supervisor that cannot open its database on a full disk: a machine that starts is
// asked whether it is well, and the user hears why it is not.
class FullDisk final : public v1::Supervisor::Service {
 public:
  explicit FullDisk(absl::Status why) : why_(std::move(why)) {}
  grpc::Status Health(grpc::ServerContext*, const v1::HealthRequest*,
                      v1::HealthResponse*) override {
    return rpc::ToGrpc(why_);
  }

 private:
  const absl::Status why_;
};

// Returns with what it was told, when somebody may have made room; the next supervisor tries again.
absl::Status TellOfFullDisk(const absl::Status& why, Door& calls, const sigset_t& signals) {
  constexpr timespec kPause{2, 0};
  FullDisk service(
      Annotate(WithReason(absl::ResourceExhaustedError(why.message()), Reason::kDiskLow),
               "the machine's disk is full: give it a larger \"disk\" in machine.json "
               "and run `vibe machine restart`"));
  VIBE_ASSIGN_OR_RETURN(const auto server, RpcServer::Start(service, kMaxServerThreads));
  calls.Serve([&server](UniqueFd connection) { server->Add(std::move(connection)); });
  ::sigtimedwait(&signals, nullptr, &kPause);
  calls.Close();
  server->Stop(kGrace);
  return why;
}

absl::Status Serve(Arguments arguments, const sigset_t& signals) {
  for (const std::string& range : arguments.blocked) {
    const bool ipv6 = absl::StrContains(range, ':');
    (ipv6 ? arguments.supervisor.firewall.blocked6 : arguments.supervisor.firewall.blocked4)
        .push_back(range);
  }
  arguments.supervisor.registry.host_gateway = arguments.host_gateway;
  VIBE_ASSIGN_OR_RETURN(const std::string secret, ReadMachineSecret());
  VIBE_ASSIGN_OR_RETURN(const auto calls, Door::Open(arguments.listen, secret));
  VIBE_ASSIGN_OR_RETURN(const auto forwards, Door::Open(arguments.forward, secret));
  const std::filesystem::path data = arguments.supervisor.data;
  auto opened = Supervisor::Open(std::move(arguments.supervisor));
  if (const auto room = state::HasWorkingRoom(data); !opened.ok() && room.ok() && !*room) {
    return TellOfFullDisk(opened.status(), *calls, signals);
  }
  VIBE_ASSIGN_OR_RETURN(const auto supervisor, std::move(opened));
  supervisor->Recover();
  GrpcService service(*supervisor);
  VIBE_ASSIGN_OR_RETURN(const auto server, RpcServer::Start(service, kMaxServerThreads));
  ForwardServer forward(
      [&](const relay::StreamHeader& header) { return supervisor->ForwardTarget(header); });
  calls->Serve([&server](UniqueFd connection) { server->Add(std::move(connection)); });
  forwards->Serve([&forward](UniqueFd connection) { forward.Add(std::move(connection)); });
  spdlog::info("vibe-supervisor {} serves {}", kVersion, absl::StrJoin(arguments.listen, " "));
  int signal = 0;
  ::sigwait(&signals, &signal);
  spdlog::info("ends on signal {}; services run on", signal);
  std::thread([] {
    absl::SleepFor(kLastResort);
    ::_exit(0);  // nothing is lost: what was under way is found by the next supervisor
  }).detach();
  service.EndStreams();
  forward.Stop();
  forwards->Close();
  calls->Close();
  server->Stop(kGrace);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  ShareMemory();
  // This program is also the worker that opens an app's SQLite databases.
  if (const std::optional<int> code = state::SqliteWorkerMain(argc, argv)) {
    return *code;
  }
  Arguments arguments;
  CLI::App app("The supervisor of a Vibe machine");
  Define(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  spdlog::set_default_logger(spdlog::stderr_logger_mt("supervisor"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  spdlog::set_level(spdlog::level::from_str(arguments.log_level));
  // Before the first thread, so that all of them leave the signals to us.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  RaiseOpenFiles();
  if (const absl::Status status = Serve(std::move(arguments), signals); !status.ok()) {
    spdlog::error("{}", status.ToString());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace vibe::supervisor

int main(int argc, char** argv) {
  return vibe::supervisor::Main(argc, argv);
}
