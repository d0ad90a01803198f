#include "supervisor/runtime_spec.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "network/network.h"
#include "supervisor/seccomp.h"

namespace vibe::supervisor {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr int kMaxOpenFiles = 20'000;
constexpr int kMaxProcesses = 4096;
constexpr int64_t kCpuPeriodMicroseconds = 100'000;
constexpr int64_t kMinCpuQuotaMicroseconds = 1'000;

// What entrypoints need to prepare a volume as root and then step down to a user of their own
// (chown, gosu, setpriv), to serve low ports and to signal their workers.
const char* const kCapabilities[] = {"CAP_CHOWN",  "CAP_DAC_OVERRIDE", "CAP_FOWNER",
                                     "CAP_FSETID", "CAP_KILL",         "CAP_SETGID",
                                     "CAP_SETUID", "CAP_SETPCAP",      "CAP_NET_BIND_SERVICE"};

const char* const kMaskedPaths[] = {
    "/proc/acpi",        "/proc/asound",  "/proc/interrupts",
    "/proc/kcore",       "/proc/keys",    "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi",    "/proc/timer_list",
    "/proc/timer_stats", "/sys/firmware", "/sys/devices/virtual/powercap"};

const char* const kReadonlyPaths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                      "/proc/sysrq-trigger"};

// ---- process
// -------------------------------------------------------------------------------------

using Environment = std::map<std::string, std::string>;

void MergeVariable(absl::string_view variable, Environment& environment) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(variable, absl::MaxSplits('=', 1));
  if (!parts.first.empty() && absl::StrContains(variable, '=')) {
    environment[std::string(parts.first)] = std::string(parts.second);
  }
}

Json ToList(const Environment& environment) {
  Json list = Json::array();
  for (const auto& [name, value] : environment) {
    list.push_back(absl::StrCat(name, "=", value));
  }
  return list;
}

Environment MergedEnvironment(const PlannedService& service, const oci::ImageConfig& image,
                              const ResolvedUser& user, const Environment& secrets) {
  Environment environment = {
      {"PATH", kDefaultPath}, {"HOME", user.home}, {"HOSTNAME", service.name}};
  for (const std::string& variable : image.env) {
    MergeVariable(variable, environment);
  }
  for (const Environment* layer : {&service.env, &secrets}) {
    for (const auto& [name, value] : *layer) {
      environment[name] = value;
    }
  }
  return environment;
}

// As `docker run --entrypoint E IMAGE C…` does: another entrypoint makes the image's CMD
// meaningless.
std::vector<std::string> Arguments(const PlannedService& service, const oci::ImageConfig& image) {
  std::vector<std::string> args =
      service.entrypoint.empty() ? image.entrypoint : service.entrypoint;
  const bool use_image_cmd = service.entrypoint.empty() && service.command.empty();
  const std::vector<std::string>& rest = use_image_cmd ? image.cmd : service.command;
  args.insert(args.end(), rest.begin(), rest.end());
  return args;
}

std::string AbsolutePath(absl::string_view path) {
  return absl::StartsWith(path, "/") ? std::string(path) : absl::StrCat("/", path);
}

Json Capabilities(uint32_t uid) {
  const Json all = kCapabilities;
  // A user other than root has none to begin with; the bounding set is what a root helper could
  // get.
  const Json initial = uid == 0 ? all : Json::array();
  return {{"bounding", all}, {"effective", initial}, {"permitted", initial}};
}

Json Limit(const char* type, int value) {
  return {{"type", type}, {"hard", value}, {"soft", value}};
}

Json JsonUser(const ResolvedUser& user) {
  Json json = {{"uid", user.uid}, {"gid", user.gid}};
  if (!user.groups.empty()) {
    json["additionalGids"] = user.groups;
  }
  return json;
}

Json Process(const PlannedService& service, const oci::ImageConfig& image, const ResolvedUser& user,
             const Environment& secrets) {
  const std::string& directory =
      service.working_dir.empty() ? image.working_dir : service.working_dir;
  return {
      {"terminal", false},
      {"user", JsonUser(user)},
      {"args", Arguments(service, image)},
      {"env", ToList(MergedEnvironment(service, image, user, secrets))},
      {"cwd", AbsolutePath(directory)},
      {"capabilities", Capabilities(user.uid)},
      {"rlimits", Json::array({Limit("RLIMIT_NOFILE", kMaxOpenFiles), Limit("RLIMIT_CORE", 0)})},
      {"noNewPrivileges", true}};
}

// A zero byte would cut the text short where the kernel reads it.
bool HasZeroByte(const Json& strings) {
  return absl::c_any_of(strings, [](const Json& text) {
    return absl::StrContains(text.get_ref<const std::string&>(), '\0');
  });
}

// ---- mounts
// --------------------------------------------------------------------------------------

Json Mount(const std::string& type, const std::string& source, const std::string& target,
           const std::vector<std::string>& options) {
  return {{"destination", target}, {"type", type}, {"source", source}, {"options", options}};
}

Json Mounts(const std::vector<PlannedMount>& planned) {
  Json mounts = Json::array({
      Mount("proc", "proc", "/proc", {"nosuid", "noexec", "nodev"}),
      Mount("tmpfs", "tmpfs", "/dev", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
      Mount("devpts", "devpts", "/dev/pts",
            {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
      // Postgres keeps shared buffers of its parallel workers here.
      Mount("tmpfs", "shm", "/dev/shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}),
      Mount("mqueue", "mqueue", "/dev/mqueue", {"nosuid", "noexec", "nodev"}),
      Mount("sysfs", "sysfs", "/sys", {"nosuid", "noexec", "nodev", "ro"}),
  });
  for (const PlannedMount& mount : planned) {
    mounts.push_back(Mount(mount.type, mount.source, mount.target, mount.options));
  }
  return mounts;
}

// ---- linux
// ---------------------------------------------------------------------------------------

// No device but those that every program may expect; 136:* are pseudo-terminals.
Json Devices() {
  Json rules = Json::array({{{"allow", false}, {"access", "rwm"}}});
  const auto allow = [&](int major, int minor) {
    Json rule = {{"allow", true}, {"type", "c"}, {"major", major}};
    if (minor >= 0) {
      rule["minor"] = minor;
    }
    rule["access"] = "rwm";
    rules.push_back(std::move(rule));
  };
  constexpr int kMemory = 1, kTty = 5, kPts = 136, kAny = -1;
  for (const int minor : {3, 5, 7, 8, 9}) {  // null, zero, full, random, urandom
    allow(kMemory, minor);
  }
  allow(kTty, 0);
  allow(kTty, 2);  // ptmx
  allow(kPts, kAny);
  return rules;
}

Json ResourceLimits(const manifest::Resources& resources) {
  Json limits = {{"devices", Devices()}, {"pids", {{"limit", kMaxProcesses}}}};
  if (resources.memory_bytes > 0) {
    limits["memory"] = {{"limit", resources.memory_bytes}};
  }
  if (resources.cpus > 0) {
    const auto quota = static_cast<int64_t>(
        std::llround(resources.cpus * static_cast<double>(kCpuPeriodMicroseconds)));
    limits["cpu"] = {{"quota", std::max(quota, kMinCpuQuotaMicroseconds)},
                     {"period", kCpuPeriodMicroseconds}};
  }
  return limits;
}

Json Linux(const PlannedService& service) {
  Json network = {{"type", "network"}};  // a new one, with nothing in it
  if (!service.netns.empty()) {
    network["path"] = (network::NetworkPaths().namespaces / service.netns).string();
  }
  return {{"namespaces", Json::array({{{"type", "pid"}},
                                      {{"type", "ipc"}},
                                      {{"type", "uts"}},
                                      {{"type", "mount"}},
                                      std::move(network)})},
          {"cgroupsPath", service.cgroup},
          {"resources", ResourceLimits(service.resources)},
          // Of the service's own network namespace: any user may serve port 80 there.
          {"sysctl", {{"net.ipv4.ip_unprivileged_port_start", "0"}}},
          {"seccomp", SeccompProfile()},
          {"maskedPaths", kMaskedPaths},
          {"readonlyPaths", kReadonlyPaths}};
}

}  // namespace

absl::StatusOr<std::string> RuntimeSpec(const PlannedService& service,
                                        const oci::ImageConfig& image, const ResolvedUser& user,
                                        const std::map<std::string, std::string>& secrets) {
  Json process = Process(service, image, user, secrets);
  if (process["args"].empty()) {
    return WithAdvice(
        WithService(absl::InvalidArgumentError(absl::StrCat(
                        "service ", service.name,
                        " has nothing to run: its image has neither an entrypoint nor a command")),
                    service.name),
        "give the service a `command`");
  }
  if (HasZeroByte(process["args"]) || HasZeroByte(process["env"])) {
    return WithService(absl::InvalidArgumentError(absl::StrCat("service ", service.name,
                                                               " has a zero byte in its command or "
                                                               "environment")),
                       service.name);
  }
  const Json spec = {{"ociVersion", "1.0.2"},
                     {"process", std::move(process)},
                     {"root", {{"path", "rootfs"}, {"readonly", false}}},
                     {"hostname", service.name},
                     {"mounts", Mounts(service.mounts)},
                     {"linux", Linux(service)}};
  return spec.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string ExecProcess(const std::string& spec_json, const std::vector<std::string>& args,
                        const std::map<std::string, std::string>& env,
                        const std::string& working_dir, bool terminal, const ResolvedUser* user) {
  const Json spec = Json::parse(spec_json, nullptr, false);
  Json process = spec.is_object() ? spec.value("process", Json::object()) : Json::object();
  Environment environment;
  for (const Json& variable : process.value("env", Json::array())) {
    if (variable.is_string()) {
      MergeVariable(variable.get_ref<const std::string&>(), environment);
    }
  }
  if (terminal) {
    environment.emplace("TERM", "xterm");
  }
  if (user != nullptr) {
    environment["HOME"] = user->home;
    process["user"] = JsonUser(*user);
    process["capabilities"] = Capabilities(user->uid);
  }
  for (const auto& [name, value] : env) {
    environment[name] = value;
  }
  process["terminal"] = terminal;
  process["args"] = args;
  process["env"] = ToList(environment);
  if (!working_dir.empty()) {
    process["cwd"] = AbsolutePath(working_dir);
  }
  return process.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace vibe::supervisor
