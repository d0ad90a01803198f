#include "supervisor/plan.h"

#include <algorithm>
#include <set>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/sha256.h"
#include "base/status.h"
#include "manifest/names.h"
#include "network/network.h"
#include "oci/reference.h"

namespace vibe::supervisor {
namespace {

constexpr char kAppDirectory[] = "/app";
constexpr size_t kMaxServices = 20;
// A tmpfs lives in memory that the other services need too.
constexpr char kTmpfsSize[] = "size=268435456";

absl::Status Invalid(absl::string_view message) {
  return Error(absl::StatusCode::kInvalidArgument, Reason::kInvalidManifest, message);
}

bool IsServiceName(absl::string_view name) {
  return !name.empty() && name.size() <= 63 && absl::c_all_of(name, [](char c) {
    return absl::ascii_islower(static_cast<unsigned char>(c)) ||
           absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '-';
  });
}

bool IsFileName(absl::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         absl::c_none_of(name, [](char c) {
           return c == '/' || absl::ascii_iscntrl(static_cast<unsigned char>(c));
         });
}

// Overlay options are a comma-separated list whose paths colons separate; escapes differ between
// kernels.
bool IsSafeInOverlayOptions(absl::string_view path) {
  return absl::StartsWith(path, "/") && absl::c_none_of(path, [](char c) {
           return c == ',' || c == ':' || c == '\\' ||
                  absl::ascii_iscntrl(static_cast<unsigned char>(c));
         });
}

bool IsInside(absl::string_view path, absl::string_view directory) {
  return path == directory || absl::StartsWith(path, absl::StrCat(directory, "/"));
}

absl::Status CheckTarget(absl::string_view service, absl::string_view target) {
  const std::vector<absl::string_view> parts = absl::StrSplit(target, '/');
  const bool leads_out = absl::c_any_of(parts, [](absl::string_view part) { return part == ".."; });
  if (!absl::StartsWith(target, "/") || leads_out || target == "/") {
    return WithService(Invalid(absl::StrCat("service ", service, " cannot mount at \"", target,
                                            "\": give an absolute path below /")),
                       service);
  }
  // The runtime's own mounts are part of the isolation.
  if (IsInside(target, "/proc") || IsInside(target, "/sys") || target == "/dev") {
    return WithService(Invalid(absl::StrCat("service ", service, " cannot mount at ", target,
                                            ": the system's own files are there")),
                       service);
  }
  return absl::OkStatus();
}

absl::Status CheckInput(const PlanInput& input) {
  if (input.network_index < 0 || input.network_index >= network::kMaxProjects) {
    return absl::OutOfRangeError(absl::StrCat("network index ", input.network_index));
  }
  if (input.manifest.services.empty() || input.manifest.services.size() > kMaxServices) {
    return Invalid(absl::StrCat("an app has 1 to ", kMaxServices, " services, this one has ",
                                input.manifest.services.size()));
  }
  for (const std::string& directory : {input.project_dir, input.run_dir}) {
    if (!absl::StartsWith(directory, "/")) {
      return absl::InvalidArgumentError(absl::StrCat("not an absolute path: \"", directory, "\""));
    }
  }
  if (input.has_files &&
      !(IsSafeInOverlayOptions(input.package_dir) && IsSafeInOverlayOptions(input.project_dir))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a path with a comma, a colon or a backslash cannot hold app files: ", input.package_dir,
        " or ", input.project_dir));
  }
  return absl::OkStatus();
}

// ---- order
// ---------------------------------------------------------------------------------------

using Edges = std::vector<std::vector<size_t>>;  // service to the services that it waits for

// None leads to two services, and none ends a line of /etc/hosts.
absl::Status CheckAliases(const std::vector<manifest::Service>& services,
                          const std::map<std::string, size_t>& index) {
  std::set<std::string> seen;
  for (const manifest::Service& service : services) {
    for (const std::string& alias : service.aliases) {
      if (!manifest::IsHostName(alias) || manifest::IsOwnHostName(alias) ||
          index.count(alias) > 0 || !seen.insert(alias).second) {
        return WithService(
            Invalid(absl::StrCat("service ", service.name, " cannot have the alias \"",
                                 absl::CHexEscape(alias), "\"")),
            service.name);
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Edges> Dependencies(const std::vector<manifest::Service>& services) {
  std::map<std::string, size_t> index;
  for (size_t i = 0; i < services.size(); ++i) {
    if (!IsServiceName(services[i].name)) {
      return Invalid(absl::StrCat("\"", services[i].name, "\" cannot be a service's name"));
    }
    if (!index.emplace(services[i].name, i).second) {
      return Invalid(absl::StrCat("two services are called ", services[i].name));
    }
  }
  VIBE_RETURN_IF_ERROR(CheckAliases(services, index));
  Edges edges(services.size());
  for (size_t i = 0; i < services.size(); ++i) {
    for (const std::string& name : services[i].depends_on) {
      const auto found = index.find(name);
      if (found == index.end()) {
        return WithService(Invalid(absl::StrCat("service ", services[i].name, " depends on ", name,
                                                ", which is not a service")),
                           services[i].name);
      }
      edges[i].push_back(found->second);
    }
  }
  return edges;
}

// Every service that is left waits for another one that is left, so walking along ends in a cycle.
std::string DescribeCycle(const std::vector<manifest::Service>& services, const Edges& edges,
                          const std::vector<bool>& done) {
  size_t at = static_cast<size_t>(std::find(done.begin(), done.end(), false) - done.begin());
  std::vector<size_t> path;
  while (std::find(path.begin(), path.end(), at) == path.end()) {
    path.push_back(at);
    at = *std::find_if(edges[at].begin(), edges[at].end(), [&](size_t to) { return !done[to]; });
  }
  path.erase(path.begin(), std::find(path.begin(), path.end(), at));
  path.push_back(at);
  return absl::StrJoin(path, " -> ", [&](std::string* out, size_t service) {
    absl::StrAppend(out, services[service].name);
  });
}

absl::StatusOr<std::vector<size_t>> StartOrder(const std::vector<manifest::Service>& services) {
  VIBE_ASSIGN_OR_RETURN(const Edges edges, Dependencies(services));
  std::vector<size_t> order;
  std::vector<bool> done(services.size(), false);
  while (order.size() < services.size()) {
    size_t next = 0;
    while (next < services.size() &&
           (done[next] || absl::c_any_of(edges[next], [&](size_t to) { return !done[to]; }))) {
      ++next;
    }
    if (next == services.size()) {
      return Invalid(absl::StrCat("the services depend on each other in a circle: ",
                                  DescribeCycle(services, edges, done)));
    }
    done[next] = true;
    order.push_back(next);
  }
  return order;
}

// ---- what a service sees
// -------------------------------------------------------------------------

std::string HostnameFile(absl::string_view service) {
  return absl::StrCat(service, ".hostname");
}

PlannedMount RunFileMount(const PlanInput& input, absl::string_view file, std::string target) {
  return {"bind", absl::StrCat(input.run_dir, "/", file), std::move(target), {"rbind", "ro"}};
}

// What the C library wants to read before all resolvers agree: names have IPv4 and IPv6 addresses,
// /etc/hosts comes before any name server, IPv4 is tried first. Most images say so themselves or
// have another library.
struct DefaultSettings {
  const char* file;  // in /etc and in the run folder
  const char* text;
};
constexpr DefaultSettings kDefaultSettings[] = {
    // Otherwise glibc takes a name's first line alone.
    {"host.conf", "multi on\n"},
    // Without, glibc up to 2.34 asks the name servers first, and believes them that there is no
    // such service.
    {"nsswitch.conf", "hosts: files dns\n"},
    // As musl, Go and c-ares order them. glibc's own table is older than our kind of IPv6 address
    // and puts it first: programs that try one address only would miss servers that have IPv4
    // alone.
    {"gai.conf", "precedence ::ffff:0:0/96 100\n"},
};

void AddDefaultSettings(const PlanInput& input, const manifest::Service& service,
                        PlannedService& planned) {
  for (const DefaultSettings& settings : kDefaultSettings) {
    const std::string target = absl::StrCat("/etc/", settings.file);
    const auto hides = [&](const std::string& mounted) { return IsInside(target, mounted); };
    if (absl::c_none_of(service.mounts, [&](const auto& mount) { return hides(mount.target); }) &&
        absl::c_none_of(service.tmpfs, hides)) {
      planned.default_settings.push_back(RunFileMount(input, settings.file, target));
    }
  }
}

void AddAppFiles(const PlanInput& input, PlannedService& planned) {
  const std::string files = absl::StrCat(input.project_dir, "/current/files/", planned.name);
  const std::string upper = absl::StrCat(files, "/upper");
  const std::string work = absl::StrCat(files, "/work");
  planned.directories.insert(planned.directories.end(), {upper, work});
  planned.mounts.push_back({"overlay",
                            "overlay",
                            kAppDirectory,
                            {absl::StrCat("lowerdir=", input.package_dir),
                             absl::StrCat("upperdir=", upper), absl::StrCat("workdir=", work)}});
  if (planned.working_dir.empty()) {
    planned.working_dir = kAppDirectory;
  }
}

absl::Status AddVolumesAndTmpfs(const PlanInput& input, const manifest::Service& service,
                                PlannedService& planned) {
  std::vector<PlannedMount> mounts;
  std::set<std::string> directories;
  for (const manifest::Mount& mount : service.mounts) {
    if (!IsFileName(mount.volume)) {
      return WithService(Invalid(absl::StrCat("\"", mount.volume, "\" cannot be a volume's name")),
                         service.name);
    }
    const std::string source = absl::StrCat(input.project_dir, "/current/volumes/", mount.volume);
    directories.insert(source);
    mounts.push_back({"bind", source, mount.target, {"rbind", "rw"}});
  }
  for (const std::string& target : service.tmpfs) {
    mounts.push_back(
        {"tmpfs", "tmpfs", target, {"nosuid", "nodev", "noexec", "mode=1777", kTmpfsSize}});
  }
  // A mount at a parent directory would hide one that was made below it.
  std::stable_sort(mounts.begin(), mounts.end(),
                   [](const auto& a, const auto& b) { return a.target < b.target; });
  for (size_t i = 0; i < mounts.size(); ++i) {
    VIBE_RETURN_IF_ERROR(CheckTarget(service.name, mounts[i].target));
    if (i > 0 && mounts[i].target == mounts[i - 1].target) {
      return WithService(Invalid(absl::StrCat("service ", service.name, " mounts two things at ",
                                              mounts[i].target)),
                         service.name);
    }
  }
  planned.mounts.insert(planned.mounts.end(), mounts.begin(), mounts.end());
  planned.directories.insert(planned.directories.end(), directories.begin(), directories.end());
  return absl::OkStatus();
}

// containerd wants letters and digits with single separators between them; a service's name may
// also begin or end with a hyphen, or have several in a row.
std::string ContainerId(const std::string& name) {
  const bool plain =
      !absl::StartsWith(name, "-") && !absl::EndsWith(name, "-") && !absl::StrContains(name, "--");
  return plain ? name : absl::StrCat("service-", Sha256Digest(name).substr(7, 12));
}

absl::StatusOr<PlannedService> PlanService(const PlanInput& input, const std::string& ns,
                                           size_t index) {
  const manifest::Service& service = input.manifest.services[index];
  const absl::StatusOr<oci::Reference> image = oci::ParseReference(service.image);
  if (!image.ok()) {
    return WithService(Invalid(absl::StrCat("service ", service.name, ": image \"", service.image,
                                            "\": ", image.status().message())),
                       service.name);
  }
  PlannedService planned;
  planned.name = service.name;
  planned.aliases = service.aliases;
  planned.container_id = ContainerId(service.name);
  planned.image = image->ToString();
  planned.entrypoint = service.entrypoint;
  planned.command = service.command;
  planned.env = service.env;
  planned.working_dir = service.working_dir;
  planned.user = service.user;
  planned.service_index = static_cast<int>(index);
  planned.ipv4 = input.pool.Ipv4Of(input.network_index, planned.service_index);
  planned.ipv6 = network::AddressPool::Ipv6Of(input.network_index, planned.service_index);
  planned.netns = absl::StrCat("vibe-", input.network_index, "-", index);
  planned.ports = service.ports;
  planned.depends_on = service.depends_on;
  planned.healthcheck = service.healthcheck;
  planned.hooks = service.hooks;
  planned.restart = service.restart;
  planned.resources = service.resources;
  planned.cgroup = absl::StrCat(input.cgroup_parent, "/", ns, "/", service.name);
  if (input.has_files) {
    AddAppFiles(input, planned);
  }
  VIBE_RETURN_IF_ERROR(AddVolumesAndTmpfs(input, service, planned));
  planned.mounts.push_back(RunFileMount(input, "hosts", "/etc/hosts"));
  planned.mounts.push_back(RunFileMount(input, "resolv.conf", "/etc/resolv.conf"));
  planned.mounts.push_back(RunFileMount(input, HostnameFile(service.name), "/etc/hostname"));
  AddDefaultSettings(input, service, planned);
  return planned;
}

std::string HostsText(std::vector<PlannedService> services) {
  std::sort(services.begin(), services.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  std::string text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
  for (const PlannedService& service : services) {
    // One name a line: musl reads no further than 511 bytes of one.
    const auto add = [&](absl::string_view name) {
      absl::StrAppend(&text, service.ipv4, " ", name, "\n", service.ipv6, " ", name, "\n");
    };
    if (!manifest::IsOwnHostName(service.name)) {
      add(service.name);
    }
    absl::c_for_each(service.aliases, add);
  }
  return text;
}

std::string ResolvConfText(const std::vector<std::string>& nameservers) {
  std::string text;
  for (const std::string& address : nameservers) {
    absl::StrAppend(&text, "nameserver ", address, "\n");
  }
  return text;
}

}  // namespace

std::string NamespaceName(absl::string_view app_id, absl::string_view project_id) {
  constexpr size_t kMaxLabel = 40;
  std::string label;
  for (const char c : app_id) {
    const auto letter = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(letter)) {
      label.push_back(absl::ascii_tolower(letter));
    } else if (!label.empty() && label.back() != '-') {
      label.push_back('-');  // containerd refuses two separators in a row
    }
    if (label.size() == kMaxLabel) {
      break;
    }
  }
  while (!label.empty() && label.back() == '-') {
    label.pop_back();
  }
  const std::string digest = Sha256Digest(project_id);
  return absl::StrCat("vibe-", label.empty() ? "app" : label, "-",
                      absl::string_view(digest).substr(sizeof("sha256:") - 1, 12));
}

absl::StatusOr<Plan> MakePlan(const PlanInput& input) {
  VIBE_RETURN_IF_ERROR(CheckInput(input));
  VIBE_ASSIGN_OR_RETURN(const std::vector<size_t> order, StartOrder(input.manifest.services));
  Plan plan;
  plan.project_id = input.project_id;
  plan.project_name = input.project_name;
  plan.containerd_namespace = NamespaceName(input.manifest.id, input.project_id);
  plan.network_index = input.network_index;
  plan.pool = input.pool;
  plan.internet = input.manifest.network && input.grant_network;
  plan.expose_ports = input.grant_expose_ports;
  for (const size_t index : order) {
    VIBE_ASSIGN_OR_RETURN(PlannedService service,
                          PlanService(input, plan.containerd_namespace, index));
    plan.services.push_back(std::move(service));
  }
  plan.hosts = HostsText(plan.services);
  // Also without the internet: it may be granted while the services run, and many programs read the
  // file once. Until then the firewall refuses the queries.
  plan.resolv_conf = ResolvConfText(input.nameservers);
  return plan;
}

std::map<std::string, std::string> RunFiles(const Plan& plan) {
  std::map<std::string, std::string> files = {{"hosts", plan.hosts},
                                              {"resolv.conf", plan.resolv_conf}};
  for (const DefaultSettings& settings : kDefaultSettings) {
    files[settings.file] = settings.text;
  }
  for (const PlannedService& service : plan.services) {
    files[HostnameFile(service.name)] = absl::StrCat(service.name, "\n");
  }
  return files;
}

}  // namespace vibe::supervisor
