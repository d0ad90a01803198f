// Where a native machine keeps its things: on the host below one directory, in the machine below
// /run/vibe. The machine's paths are fixed and short, so that overlay mount options, socket
// addresses and containerd's configuration do not depend on how long the host's path is. Pure.
#pragma once

#include <filesystem>
#include <string>

namespace vibe::vm::native {

// On the host.
struct Layout {
  std::filesystem::path directory;  // absolute

  std::filesystem::path disk() const { return directory / "data.img"; }  // survives everything
  std::filesystem::path run() const { return directory / "run"; }        // sockets of this boot
  std::filesystem::path logs() const { return directory / "logs"; }
  std::filesystem::path console_log() const { return logs() / "console.log"; }
  std::filesystem::path record() const { return directory / "pid"; }  // run_record.h
  std::filesystem::path lock() const { return directory / "lock"; }  // held while the machine lives
};

// The machine's cgroup, in every hierarchy: "vibe-" and 12 hex digits of the directory's hash.
std::string CgroupName(const std::filesystem::path& directory);

inline constexpr char kSupervisorSocket[] = "supervisor.sock";  // in run()
inline constexpr char kForwardSocket[] = "forward.sock";

// In the machine.
namespace inside {
inline constexpr char kData[] = "/run/vibe/data";    // the file system in Layout::disk()
inline constexpr char kHost[] = "/run/vibe/host";    // Layout::run()
inline constexpr char kBin[] = "/run/vibe/bin";      // the directory of the host's vibe programs
inline constexpr char kLogs[] = "/run/vibe/logs";    // Layout::logs()
inline constexpr char kState[] = "/run/vibe/state";  // the supervisor's, lost with the machine
inline constexpr char kContainerdState[] = "/run/vibe/containerd";
inline constexpr char kContainerdSocket[] = "/run/vibe/containerd.sock";
inline constexpr char kContainerdConfig[] = "/run/vibe/containerd.toml";
inline constexpr char kNamespaces[] = "/run/netns";
inline constexpr char kServices[] = "/vibe";  // cgroup of all services, below the machine's own
}  // namespace inside

// The uplink that slirp4netns makes.
inline constexpr char kUplink[] = "tap0";
inline constexpr char kUplinkNetwork[] = "10.0.2.0/24";
inline constexpr char kUplinkGateway[] = "10.0.2.2";  // the host's loopback
inline constexpr char kUplinkNameserver[] = "10.0.2.3";

}  // namespace vibe::vm::native
