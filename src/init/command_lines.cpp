#include "init/command_lines.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/substitute.h"
#include "vm/native/layout.h"

namespace vibe::init {
namespace {

namespace native = vm::native;
namespace inside = vm::native::inside;

// oom_score 0: lowering it needs CAP_SYS_RESOURCE, which not every root has.
constexpr char kContainerdConfig[] = R"(version = 2
root = "$0/containerd"
state = "$1"
temp = "$0/tmp"
oom_score = 0
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "$2"

[ttrpc]
  address = "$2.ttrpc"

[debug]
  level = "info"

[plugins."io.containerd.internal.v1.opt"]
  path = "$0/containerd-opt"
)";

}  // namespace

std::string ContainerdConfig() {
  return absl::Substitute(kContainerdConfig, inside::kData, inside::kContainerdState,
                          inside::kContainerdSocket);
}

std::vector<std::string> SupervisorCommand(const Programs& programs,
                                           const SupervisorOptions& options) {
  std::vector<std::string> command = {
      absl::StrCat(inside::kBin, "/", programs.supervisor.filename().string()),
      "--data",
      inside::kData,
      "--run",
      inside::kState,
      "--containerd",
      inside::kContainerdSocket,
      "--runtime",
      programs.runtime.string(),
      "--logger",
      absl::StrCat(inside::kBin, "/vibe-logger"),
      "--cgroup",
      inside::kServices,
      "--cni",
      programs.cni.string(),
      "--disk-host",
      inside::kLogs,
      "--listen",
      absl::StrCat("unix:", inside::kHost, "/", native::kSupervisorSocket),
      "--forward",
      absl::StrCat("unix:", inside::kHost, "/", native::kForwardSocket),
  };
  if (options.uplink) {
    command.insert(command.end(),
                   {"--host-gateway", native::kUplinkGateway, "--blocked", native::kUplinkNetwork,
                    "--uplink", native::kUplink, "--nameserver", native::kUplinkNameserver});
  }
  return command;
}

}  // namespace vibe::init
