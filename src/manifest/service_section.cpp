#include "manifest/service_section.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "manifest/healthcheck_section.h"
#include "manifest/hooks_section.h"
#include "manifest/names.h"
#include "manifest/quantity.h"
#include "manifest/section.h"

namespace vibe::manifest {
namespace {

constexpr size_t kMaxName = 63;  // it is a host name too
constexpr size_t kMaxAliases = 20;
constexpr size_t kMaxImage = 512;
constexpr size_t kMaxArgument = 2048;
constexpr size_t kMaxArguments = 256;
constexpr size_t kMaxEnv = 100;
constexpr size_t kMaxEnvName = 256;
constexpr size_t kMaxEnvValue = 4096;
constexpr size_t kMaxPorts = 100;
constexpr size_t kMaxMounts = 50;
constexpr size_t kMaxPath = 1024;
constexpr size_t kMaxUser = 256;
constexpr double kMinCpus = 0.01;
constexpr double kMaxCpus = 1024;
constexpr int64_t kMinMemory = int64_t{6} << 20;  // with less no container starts
constexpr int64_t kMaxMemory = int64_t{1} << 50;

std::string ReadName(Section& section) {
  const auto value = section.Require("name", "name: web");
  const auto name =
      value ? ReadText(*value, {.max = kMaxName}, section.diagnostics()) : std::nullopt;
  if (!name) {
    return "";
  }
  if (!IsServiceName(*name)) {
    section.diagnostics().Error(
        value->place,
        absl::StrCat("a service's name is made of a-z, 0-9 and -, not ", Quoted(*name)));
    return "";
  }
  if (IsOwnHostName(*name)) {
    section.diagnostics().Warning(
        value->place, absl::StrCat(Quoted(*name),
                                   " means each service itself: the others reach this one only by "
                                   "an alias"));
  } else if (IsTakenForAddress(*name)) {
    // The format has always had such names, and an app of one service needs none.
    section.diagnostics().Warning(
        value->place, absl::StrCat(Quoted(*name),
                                   " is an address to programs that look names up: the others "
                                   "reach this one only by an alias; take a name with letters"));
  }
  return *name;
}

void ReadAliases(Section& section, ReadService& out) {
  Diagnostics& diagnostics = section.diagnostics();
  const auto value = section.Find("aliases");
  if (!value) {
    return;
  }
  std::set<std::string> seen = {out.service.name};
  for (const Value& item : ReadList(*value, kMaxAliases, "[database]", diagnostics)) {
    auto alias = ReadText(item, {.max = kMaxHostName}, diagnostics);
    if (!alias) {
      continue;
    }
    if (!IsHostName(*alias)) {
      diagnostics.Error(item.place,
                        absl::StrCat("must be a host name in lower case, such as db.internal, not ",
                                     Quoted(*alias)));
    } else if (IsOwnHostName(*alias)) {
      diagnostics.Error(item.place, absl::StrCat(Quoted(*alias),
                                                 " means each service itself; take another name"));
    } else if (!seen.insert(*alias).second) {
      diagnostics.Warning(
          item.place,
          absl::StrCat(Quoted(*alias), *alias == out.service.name ? " is the service's name already"
                                                                  : " is listed twice"));
    } else {
      out.service.aliases.push_back(std::move(*alias));
      out.aliases.push_back(item.place);
    }
  }
}

// The whole grammar is checked where images are fetched; this keeps out what no registry has ever
// seen.
std::string ReadImage(Section& section) {
  const auto value = section.Require("image", "image: postgres:15");
  const auto image =
      value ? ReadText(*value, {.max = kMaxImage}, section.diagnostics()) : std::nullopt;
  if (!image) {
    return "";
  }
  if (absl::StrContains(*image, "://")) {
    section.diagnostics().Error(value->place, "leave out the scheme: write registry/name:tag");
  } else if (!std::all_of(image->begin(), image->end(), absl::ascii_isgraph)) {
    section.diagnostics().Error(
        value->place,
        absl::StrCat("an image is registry/name:tag or name@sha256:… without spaces, not ",
                     Quoted(*image)));
  }
  return *image;
}

std::vector<std::string> ReadArguments(Section& section, absl::string_view key) {
  const auto value = section.Find(key);
  return value ? ReadTexts(*value, kMaxArguments, {.min = 0, .max = kMaxArgument, .controls = true},
                           "[\"node\", \"server.js\"]", section.diagnostics())
               : std::vector<std::string>();
}

void ReadVariable(const Entry& entry, const std::string& path,
                  std::map<std::string, std::string>& env, Diagnostics& diagnostics) {
  const Place key = {entry.key_offset, path};
  if (entry.key.size() > kMaxEnvName || !IsVariableName(entry.key)) {
    diagnostics.Error(
        key, absl::StrCat("a variable's name is made of A-Z, 0-9 and _, and starts with no "
                          "digit; not ",
                          Quoted(entry.key)));
    return;
  }
  if (std::any_of(entry.key.begin(), entry.key.end(), absl::ascii_islower)) {
    diagnostics.Warning(key, absl::StrCat("variables are usually written in upper case: ",
                                          absl::AsciiStrToUpper(entry.key)));
  }
  if (entry.value.kind == TreeNode::Kind::kNull) {
    diagnostics.Error(key, "has no value: write \"\" for an empty one");
    return;
  }
  if (auto text = ReadText(ValueOf(entry, path), {.min = 0, .max = kMaxEnvValue, .controls = true},
                           diagnostics)) {
    env[entry.key] = std::move(*text);
  }
}

std::map<std::string, std::string> ReadEnv(Section& section) {
  std::map<std::string, std::string> env;
  const auto value = section.Find("env");
  if (!value || !IsMapping(*value, "{PORT: \"8080\"}", section.diagnostics())) {
    return env;
  }
  const std::vector<Entry>& entries = value->node->entries;
  if (entries.size() > kMaxEnv) {
    section.diagnostics().Error(
        {entries[kMaxEnv].key_offset, value->place.path},
        absl::StrCat("has ", entries.size(), " variables; at most ", kMaxEnv, " are allowed"));
  }
  for (size_t i = 0; i < std::min(entries.size(), kMaxEnv); ++i) {
    ReadVariable(entries[i], ChildPath(value->place.path, entries[i].key), env,
                 section.diagnostics());
  }
  return env;
}

// A port as Docker has it, [[ADDRESS:]HOSTPORT:]PORT[/PROTOCOL], in the form of a manifest.
std::string HowToWritePort(absl::string_view text) {
  absl::string_view protocol;
  if (absl::ConsumeSuffix(&text, "/udp")) {
    protocol = ", protocol: udp";
  } else {
    absl::ConsumeSuffix(&text, "/tcp");
  }
  const auto is_port = [](absl::string_view part) {
    const auto number = ParseWhole(part);
    return number && *number >= 1 && *number <= 65535;
  };
  std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  const bool is_read = is_port(parts.back());
  const absl::string_view container = is_read ? parts.back() : "8080";
  absl::string_view host = "HOSTPORT";
  if (is_read && parts.size() > 1 && is_port(parts[parts.size() - 2])) {
    host = parts[parts.size() - 2];
  }
  return absl::StrCat("write {container: ", container, is_read ? protocol : "",
                      "}; the host's port is chosen with `vibe open --port SERVICE:", host, "`");
}

Port ReadPort(const Value& value, Diagnostics& diagnostics) {
  if (value.node->kind == TreeNode::Kind::kScalar) {
    diagnostics.Error(value.place, HowToWritePort(value.node->text));
    return {};
  }
  Section section(value, "{container: 8080}", diagnostics);
  Port port;
  if (const auto container = section.Require("container", "container: 8080")) {
    port.container =
        static_cast<uint16_t>(ReadWhole(*container, 1, 65535, diagnostics).value_or(0));
  }
  if (const auto exposure = section.Find("hostExposure")) {
    port.host_exposure = ReadChoice(*exposure, {"auto", "none"}, diagnostics).value_or(0) == 0
                             ? Exposure::kAuto
                             : Exposure::kNone;
  }
  if (const auto protocol = section.Find("protocol")) {
    port.protocol = ReadChoice(*protocol, {"tcp", "udp"}, diagnostics).value_or(0) == 0
                        ? Protocol::kTcp
                        : Protocol::kUdp;
  }
  section.RefuseUnknownKeys();
  return port;
}

std::vector<Port> ReadPorts(Section& section) {
  std::vector<Port> ports;
  const auto value = section.Find("ports");
  if (!value) {
    return ports;
  }
  std::set<std::pair<uint16_t, Protocol>> seen;
  for (const Value& item :
       ReadList(*value, kMaxPorts, "[{container: 8080}]", section.diagnostics())) {
    const Port port = ReadPort(item, section.diagnostics());
    if (port.container != 0 && !seen.emplace(port.container, port.protocol).second) {
      section.diagnostics().Error(item.place,
                                  absl::StrCat("port ", port.container, "/",
                                               port.protocol == Protocol::kTcp ? "tcp" : "udp",
                                               " is listed twice; keep one"));
    }
    ports.push_back(port);
  }
  return ports;
}

std::optional<std::string> CheckTarget(absl::string_view target, const Place& place,
                                       Diagnostics& diagnostics) {
  std::optional<std::string> path = NormalizedPath(target);
  if (!path) {
    diagnostics.Error(
        place, absl::StrCat("must be an absolute path below /, without .., not ", Quoted(target)));
  } else if (IsSystemPath(*path)) {
    diagnostics.Error(place, absl::StrCat("nothing can be mounted at ", *path,
                                          ": the system's own files are there"));
    return std::nullopt;
  }
  return path;
}

bool CheckVolumeName(absl::string_view name, const Place& place, Diagnostics& diagnostics) {
  if (IsVolumeName(name)) {
    return true;
  }
  diagnostics.Error(
      place,
      absl::StrCat("must name a volume of state.volumes, not ", Quoted(name),
                   absl::StrContains(name, '/') ? ": folders of the host cannot be mounted" : ""));
  return false;
}

// Adds a mount unless something is at its target already.
void AddMount(Mount mount, const Value& item, std::set<std::string>& targets, ReadService& out,
              Diagnostics& diagnostics) {
  if (!targets.insert(mount.target).second) {
    diagnostics.Error(item.place,
                      absl::StrCat("two things are mounted at ", mount.target, "; keep one"));
    return;
  }
  out.service.mounts.push_back(std::move(mount));
  out.mounts.push_back(item.place);
}

void ReadMount(const Value& item, std::set<std::string>& targets, ReadService& out,
               Diagnostics& diagnostics) {
  Section section(item, "{source: data, target: /data}", diagnostics);
  std::optional<std::string> volume;
  std::optional<std::string> target;
  Value source_value = item;
  if (const auto source = section.Require("source", "source: data")) {
    source_value = *source;
    if (const auto text = ReadText(*source, {.max = kMaxPath}, diagnostics)) {
      absl::string_view name = *text;
      if (absl::StartsWith(name, "state:")) {
        name.remove_prefix(6);
      }
      if (CheckVolumeName(name, source->place, diagnostics)) {
        volume = std::string(name);
      }
    }
  }
  if (const auto value = section.Require("target", "target: /data")) {
    if (const auto text = ReadText(*value, {.max = kMaxPath}, diagnostics)) {
      target = CheckTarget(*text, value->place, diagnostics);
    }
  }
  section.RefuseUnknownKeys();
  if (volume && target) {
    AddMount({*volume, *target}, source_value, targets, out, diagnostics);
  }
}

void ReadStateVolume(const Value& item, std::set<std::string>& targets, ReadService& out,
                     Diagnostics& diagnostics) {
  const auto text = ReadText(item, {.max = kMaxPath}, diagnostics);
  if (!text) {
    return;
  }
  const size_t colon = text->find(':');
  if (colon == std::string::npos || text->find(':', colon + 1) != std::string::npos) {
    diagnostics.Error(
        item.place,
        absl::StrCat("is written NAME:/absolute/path, without options, not ", Quoted(*text)));
    return;
  }
  const std::string volume = text->substr(0, colon);
  const auto target = CheckTarget(text->substr(colon + 1), item.place, diagnostics);
  if (CheckVolumeName(volume, item.place, diagnostics) && target) {
    AddMount({volume, *target}, item, targets, out, diagnostics);
  }
}

void ReadMounts(Section& section, ReadService& out) {
  Diagnostics& diagnostics = section.diagnostics();
  std::set<std::string> targets;
  size_t left = kMaxMounts;  // for both spellings together
  if (const auto value = section.Find("mounts")) {
    const auto items = ReadList(*value, left, "[{source: data, target: /data}]", diagnostics);
    left -= items.size();
    for (const Value& item : items) {
      ReadMount(item, targets, out, diagnostics);
    }
  }
  if (const auto value = section.Find("stateVolumes")) {
    for (const Value& item : ReadList(*value, left, "[\"data:/var/lib/data\"]", diagnostics)) {
      ReadStateVolume(item, targets, out, diagnostics);
    }
  }
  if (const auto value = section.Find("tmpfs")) {
    for (const Value& item : ReadList(*value, kMaxMounts, "[/tmp]", diagnostics)) {
      const auto text = ReadText(item, {.max = kMaxPath}, diagnostics);
      const auto target = text ? CheckTarget(*text, item.place, diagnostics) : std::nullopt;
      if (!target) {
        continue;
      }
      if (!targets.insert(*target).second) {
        diagnostics.Error(item.place,
                          absl::StrCat("two things are mounted at ", *target, "; keep one"));
      } else {
        out.service.tmpfs.push_back(*target);
      }
    }
  }
}

void ReadDependsOn(Section& section, ReadService& out) {
  Diagnostics& diagnostics = section.diagnostics();
  auto value = section.Find("dependsOn");
  if (const auto old = section.FindOldSpelling("dependOn")) {
    if (value) {
      diagnostics.Error(old->place, "dependsOn and dependOn mean the same; keep dependsOn");
    } else {
      value = old;
    }
  }
  if (!value) {
    return;
  }
  std::set<std::string> seen;
  for (const Value& item : ReadList(*value, kMaxServices, "[db]", diagnostics)) {
    auto name = ReadText(item, {.max = kMaxName}, diagnostics);
    if (!name) {
      continue;
    }
    if (!seen.insert(*name).second) {
      diagnostics.Warning(item.place, absl::StrCat(Quoted(*name), " is listed twice"));
      continue;
    }
    out.service.depends_on.push_back(std::move(*name));
    out.depends_on.push_back(item.place);
  }
}

std::string ReadWorkingDir(Section& section) {
  const auto value = section.Find("workingDir");
  const auto text =
      value ? ReadText(*value, {.max = kMaxPath}, section.diagnostics()) : std::nullopt;
  if (!text || *text == "/") {
    return text.value_or("");
  }
  const auto path = NormalizedPath(*text);
  if (!path) {
    section.diagnostics().Error(
        value->place, absl::StrCat("must be an absolute path without .., not ", Quoted(*text)));
  }
  return path.value_or("");
}

std::string ReadUser(Section& section) {
  const auto value = section.Find("user");
  const auto text =
      value ? ReadText(*value, {.max = kMaxUser}, section.diagnostics()) : std::nullopt;
  if (text && !IsUser(*text)) {
    section.diagnostics().Error(
        value->place,
        absl::StrCat("must be a user, or user:group, by name or number, not ", Quoted(*text)));
  }
  return text.value_or("");
}

Restart ReadRestart(Section& section) {
  const auto value = section.Find("restart");
  if (!value) {
    return Restart::kOnFailure;
  }
  const std::string& text = value->node->text;
  if (text == "unless-stopped") {
    section.diagnostics().Error(
        value->place,
        "must be no or on-failure or always; unless-stopped is `always` here, as a "
        "stopped app stays stopped");
    return Restart::kOnFailure;
  }
  constexpr Restart kValues[] = {Restart::kNo, Restart::kOnFailure, Restart::kAlways};
  return kValues[ReadChoice(*value, {"no", "on-failure", "always"}, section.diagnostics())
                     .value_or(1)];
}

Resources ReadResources(Section& service) {
  Resources resources;
  Diagnostics& diagnostics = service.diagnostics();
  const auto value = service.Find("resources");
  if (!value) {
    return resources;
  }
  Section section(*value, "{cpus: 1.5, memory: 256m}", diagnostics);
  constexpr TextLimits kNumber = {.max = 32};
  if (const auto cpus = section.Find("cpus")) {
    if (const auto text = ReadText(*cpus, kNumber, diagnostics)) {
      resources.cpus = ParseDecimal(*text).value_or(0);
      if (resources.cpus < kMinCpus || resources.cpus > kMaxCpus) {
        diagnostics.Error(cpus->place,
                          absl::StrCat("must be a number from ", kMinCpus, " to ", kMaxCpus,
                                       ", such as 1.5, not ", Quoted(*text)));
      }
    }
  }
  if (const auto memory = section.Find("memory")) {
    if (const auto text = ReadText(*memory, kNumber, diagnostics)) {
      resources.memory_bytes = ParseBytes(*text).value_or(0);
      if (resources.memory_bytes < kMinMemory || resources.memory_bytes > kMaxMemory) {
        diagnostics.Error(
            memory->place,
            absl::StrCat("must be a size from 6m on, such as 256m or 1.5g, not ", Quoted(*text)));
      }
    }
  }
  section.RefuseUnknownKeys();
  return resources;
}

ReadService ReadOne(const Value& value, Diagnostics& diagnostics) {
  Section section(value, "{name: web, image: nginx}", diagnostics);
  ReadService out;
  Service& service = out.service;
  service.name = ReadName(section);
  out.name = {value.place.offset, section.PathOf("name")};
  if (const auto name = section.Find("name")) {
    out.name = name->place;
  }
  ReadAliases(section, out);
  service.image = ReadImage(section);
  service.entrypoint = ReadArguments(section, "entrypoint");
  service.command = ReadArguments(section, "command");
  service.env = ReadEnv(section);
  if (const auto env = section.Find("env")) {
    out.env = env->place;
  }
  service.ports = ReadPorts(section);
  ReadMounts(section, out);
  ReadDependsOn(section, out);
  if (const auto healthcheck = section.Find("healthcheck")) {
    service.healthcheck = ReadHealthcheck(*healthcheck, diagnostics);
  }
  if (const auto hooks = section.Find("hooks")) {
    service.hooks = ReadHooks(*hooks, diagnostics);
  }
  service.working_dir = ReadWorkingDir(section);
  service.user = ReadUser(section);
  service.restart = ReadRestart(section);
  service.resources = ReadResources(section);
  section.RefuseUnknownKeys();
  return out;
}

}  // namespace

std::vector<ReadService> ReadServices(const Value& value, Diagnostics& diagnostics) {
  std::vector<ReadService> services;
  const std::vector<Value> items =
      ReadList(value, kMaxServices, "[{name: web, image: nginx}]", diagnostics);
  if (items.empty() && value.node->kind == TreeNode::Kind::kSequence) {
    diagnostics.Error(value.place, "an app has at least one service");
  }
  services.reserve(items.size());
  for (const Value& item : items) {
    services.push_back(ReadOne(item, diagnostics));
  }
  return services;
}

}  // namespace vibe::manifest
