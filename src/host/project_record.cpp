#include "host/project_record.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace vibe::host {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;
constexpr size_t kMaxNameLength = 63;

constexpr std::pair<Pending, const char*> kPendingNames[] = {
    {Pending::kNone, ""},
    {Pending::kStop, "stop"},
    {Pending::kRemoveKeepingData, "remove-keeping-data"},
    {Pending::kRemove, "remove"}};

const char* PendingName(Pending pending) {
  return std::find_if(std::begin(kPendingNames), std::end(kPendingNames),
                      [&](const auto& entry) { return entry.first == pending; })
      ->second;
}

bool ReadPending(const json& object, Pending& pending) {
  const json name = object.value("pending", json(""));
  for (const auto& [value, text] : kPendingNames) {
    if (name == text) {
      pending = value;
      return true;
    }
  }
  return false;
}

json Decision(const std::optional<bool>& decision) {
  return decision ? json(*decision) : json();
}

absl::Status Wrong(absl::string_view what) {
  return absl::DataLossError(absl::StrCat(what, " is missing or wrong"));
}

bool ReadString(const json& object, const char* name, std::string& value) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) {
    return false;
  }
  value = found->get<std::string>();
  return true;
}

bool ReadPort(const json& object, const char* name, uint16_t& value) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_unsigned() || found->get<uint64_t>() > 65535) {
    return false;
  }
  value = found->get<uint16_t>();
  return true;
}

bool ReadBool(const json& object, const char* name, bool& value) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_boolean()) {
    return false;
  }
  value = found->get<bool>();
  return true;
}

bool ReadDecision(const json& object, const char* name, std::optional<bool>& value) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) {
    return true;
  }
  bool decision = false;
  if (!ReadBool(object, name, decision)) {
    return false;
  }
  value = decision;
  return true;
}

bool ReadRecordedPort(const json& object, RecordedPort& port) {
  std::string protocol;
  if (!object.is_object() || !ReadPort(object, "containerPort", port.container_port) ||
      port.container_port == 0 || !ReadPort(object, "hostPort", port.host_port) ||
      !ReadBool(object, "exposed", port.exposed) || !ReadString(object, "protocol", protocol) ||
      (protocol != "tcp" && protocol != "udp")) {
    return false;
  }
  port.protocol = protocol == "tcp" ? manifest::Protocol::kTcp : manifest::Protocol::kUdp;
  return true;
}

bool ReadService(const json& object, RecordedService& service) {
  if (!object.is_object() || !ReadString(object, "name", service.name) || service.name.empty() ||
      !ReadString(object, "image", service.image)) {
    return false;
  }
  const auto ports = object.find("ports");
  if (ports == object.end() || !ports->is_array()) {
    return false;
  }
  for (const json& item : *ports) {
    if (!ReadRecordedPort(item, service.ports.emplace_back())) {
      return false;
    }
  }
  return true;
}

json PortJson(const RecordedPort& port) {
  return json{{"containerPort", port.container_port},
              {"protocol", port.protocol == manifest::Protocol::kTcp ? "tcp" : "udp"},
              {"exposed", port.exposed},
              {"hostPort", port.host_port}};
}

}  // namespace

std::string RecordToJson(const ProjectRecord& record) {
  json services = json::array();
  for (const RecordedService& service : record.services) {
    json ports = json::array();
    for (const RecordedPort& port : service.ports) {
      ports.push_back(PortJson(port));
    }
    services.push_back({{"name", service.name}, {"image", service.image}, {"ports", ports}});
  }
  const json object{
      {"format", kFormat},
      {"id", record.id},
      {"name", record.name},
      {"appId", record.app_id},
      {"appVersion", record.app_version},
      {"path", record.path},
      {"createdAt", absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", record.created_at, absl::UTCTimeZone())},
      {"removed", record.removed},
      {"pending", PendingName(record.pending)},
      {"decisions",
       {{"network", Decision(record.decisions.network)},
        {"exposePorts", Decision(record.decisions.expose_ports)},
        {"hostFileImport", Decision(record.decisions.host_file_import)}}},
      {"services", services}};
  return object.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

absl::StatusOr<ProjectRecord> RecordFromJson(absl::string_view text) {
  const json object = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return absl::DataLossError("it is not a JSON object");
  }
  if (object.value("format", json()) != kFormat) {
    return absl::DataLossError("it has a format that this version does not know");
  }
  ProjectRecord record;
  std::string created;
  if (!ReadString(object, "id", record.id) || !IsUuid(record.id)) {
    return Wrong("id");
  }
  if (!ReadString(object, "name", record.name) || !IsProjectName(record.name)) {
    return Wrong("name");
  }
  if (!ReadString(object, "appId", record.app_id) || record.app_id.empty()) {
    return Wrong("appId");
  }
  if (!ReadString(object, "appVersion", record.app_version) ||
      !ReadString(object, "path", record.path)) {
    return Wrong("appVersion or path");
  }
  if (!ReadString(object, "createdAt", created) ||
      !absl::ParseTime(absl::RFC3339_full, created, &record.created_at, nullptr)) {
    return Wrong("createdAt");
  }
  if (!ReadBool(object, "removed", record.removed)) {
    return Wrong("removed");
  }
  if (!ReadPending(object, record.pending)) {
    return Wrong("pending");
  }
  const json decisions = object.value("decisions", json());
  if (!decisions.is_object() || !ReadDecision(decisions, "network", record.decisions.network) ||
      !ReadDecision(decisions, "exposePorts", record.decisions.expose_ports) ||
      !ReadDecision(decisions, "hostFileImport", record.decisions.host_file_import)) {
    return Wrong("decisions");
  }
  const json services = object.value("services", json());
  if (!services.is_array()) {
    return Wrong("services");
  }
  for (const json& item : services) {
    if (!ReadService(item, record.services.emplace_back())) {
      return Wrong("services");
    }
  }
  return record;
}

bool IsUuid(absl::string_view text) {
  if (text.size() != 36) {
    return false;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    const bool hex = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
    if (dash ? text[i] != '-' : !hex) {
      return false;
    }
  }
  return true;
}

bool IsProjectName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxNameLength && name[0] != '-' && !IsUuid(name) &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

absl::Status CheckProjectName(absl::string_view name) {
  return IsProjectName(name)
             ? absl::OkStatus()
             : WithAdvice(
                   absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is not a project name")),
                   "use up to 63 lower-case letters, digits and hyphens, not beginning "
                   "with a hyphen");
}

std::string Slug(absl::string_view text) {
  std::string slug;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && absl::ascii_isalnum(byte)) {
      slug.push_back(absl::ascii_tolower(byte));
    } else if (!slug.empty() && slug.back() != '-') {
      slug.push_back('-');
    }
    if (slug.size() == kMaxNameLength) {
      break;
    }
  }
  while (!slug.empty() && slug.back() == '-') {
    slug.pop_back();
  }
  return IsProjectName(slug) ? slug : "app";
}

std::vector<RecordedService> MergeServices(const manifest::Manifest& manifest,
                                           const std::vector<RecordedService>& old) {
  const auto old_host_port = [&](const std::string& service,
                                 const manifest::Port& port) -> uint16_t {
    for (const RecordedService& candidate : old) {
      for (const RecordedPort& known : candidate.ports) {
        if (candidate.name == service && known.container_port == port.container &&
            known.protocol == port.protocol) {
          return known.host_port;
        }
      }
    }
    return 0;
  };
  std::vector<RecordedService> merged;
  for (const manifest::Service& service : manifest.services) {
    RecordedService recorded{service.name, service.image, {}};
    for (const manifest::Port& port : service.ports) {
      recorded.ports.push_back({port.container, port.protocol,
                                port.host_exposure == manifest::Exposure::kAuto,
                                old_host_port(service.name, port)});
    }
    merged.push_back(std::move(recorded));
  }
  return merged;
}

std::string UrlOf(const ProjectRecord& record, absl::string_view host) {
  if (!record.decisions.expose_ports.value_or(false)) {
    return "";
  }
  for (const RecordedService& service : record.services) {
    for (const RecordedPort& port : service.ports) {
      if (port.exposed && port.protocol == manifest::Protocol::kTcp && port.host_port != 0) {
        return absl::StrCat("http://", host, ":", port.host_port);
      }
    }
  }
  return "";
}

}  // namespace vibe::host
