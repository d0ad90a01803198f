#include "init/guest/services.h"

#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status.h"
#include "init/command_lines.h"
#include "init/guest/interface.h"
#include "init/guest/uplink.h"
#include "vm/native/layout.h"

namespace vibe::init::guest {
namespace fs = std::filesystem;
namespace inside = vm::native::inside;
namespace native = vm::native;
namespace {

constexpr int64_t kMaxLogBytes = 4 << 20;
constexpr size_t kLastLines = 10;
constexpr int64_t kTail = 8 << 10;

fs::path LogPath(const std::string& service) {
  return fs::path(inside::kData) / "logs" / (service + ".log");
}

absl::StatusOr<Service> Make(const std::string& name, std::vector<std::string> command,
                             const fs::path& socket) {
  VIBE_RETURN_IF_ERROR(MakeDirectories(LogPath(name).parent_path(), 0700));
  VIBE_ASSIGN_OR_RETURN(LogPipe log,
                        LogPipe::Make(LogPath(name), kMaxLogBytes, LogPipe::Stamp::kNone));
  return Service(name, std::move(command), socket, std::move(log));
}

}  // namespace

absl::StatusOr<Service> MakeContainerd() {
  VIBE_RETURN_IF_ERROR(MakeDirectories(fs::path(inside::kData) / "tmp", 0700));
  VIBE_RETURN_IF_ERROR(ReplaceFile(inside::kContainerdConfig, ContainerdConfig()));
  return Make("containerd", {"/usr/bin/containerd", "--config", inside::kContainerdConfig},
              inside::kContainerdSocket);
}

absl::StatusOr<Service> MakeSupervisor(const Settings& settings) {
  const fs::path host = inside::kHost;
  std::vector<std::string> command = {
      kSupervisorProgram,
      "--data",
      inside::kData,
      "--run",
      inside::kState,
      "--containerd",
      inside::kContainerdSocket,
      "--runtime",
      "/usr/bin/crun",
      "--logger",
      "/usr/bin/vibe-logger",
      "--cgroup",
      inside::kServices,
      "--cni",
      "/usr/lib/cni",
      "--listen",
      absl::StrCat("unix:", (host / native::kSupervisorSocket).string()),
      "--forward",
      absl::StrCat("unix:", (host / native::kForwardSocket).string()),
  };
  for (const std::string& address : settings.listen) {
    command.insert(command.end(), {"--listen", address});
  }
  for (const std::string& address : settings.forward) {
    command.insert(command.end(), {"--forward", address});
  }
  if (const absl::StatusOr<Lease> lease = ReadLease(); lease.ok()) {
    command.insert(command.end(), {"--uplink", kInterface, "--blocked",
                                   NetworkText(lease->address, lease->netmask)});
    if (lease->router != 0) {
      command.insert(command.end(), {"--host-gateway", AddressText(lease->router)});
    }
    for (const uint32_t nameserver : lease->nameservers) {
      command.insert(command.end(), {"--nameserver", AddressText(nameserver)});
    }
  }
  return Make("supervisor", std::move(command), host / native::kSupervisorSocket);
}

std::vector<std::string> LastLines(const std::string& service) {
  std::ifstream file(LogPath(service), std::ios::binary | std::ios::ate);
  const int64_t size = file ? static_cast<int64_t>(file.tellg()) : 0;
  std::string tail(static_cast<size_t>(std::min(size, kTail)), '\0');
  file.seekg(size - static_cast<int64_t>(tail.size()));
  file.read(tail.data(), static_cast<std::streamsize>(tail.size()));
  std::vector<std::string> lines = absl::StrSplit(tail, '\n', absl::SkipEmpty());
  if (lines.size() > kLastLines) {
    lines.erase(lines.begin(), lines.end() - kLastLines);
  }
  return lines;
}

}  // namespace vibe::init::guest
