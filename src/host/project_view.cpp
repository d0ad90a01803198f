#include "host/project_view.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"

namespace vibe::host {
namespace {

using nlohmann::json;

json DecisionJson(const std::optional<bool>& decision) {
  return decision ? json(*decision) : json();
}

const char* ProtocolName(bool udp) {
  return udp ? "udp" : "tcp";
}

uint16_t RememberedPort(const ProjectRecord& record, const std::string& service, uint32_t port) {
  for (const RecordedService& candidate : record.services) {
    for (const RecordedPort& known : candidate.ports) {
      if (candidate.name == service && known.container_port == port &&
          known.protocol == manifest::Protocol::kTcp) {
        return known.host_port;
      }
    }
  }
  return 0;
}

json PortJson(uint32_t container_port, uint16_t host_port, bool udp) {
  return {{"containerPort", container_port},
          {"hostPort", host_port == 0 ? json() : json(host_port)},
          {"protocol", ProtocolName(udp)}};
}

json LiveService(const ProjectRecord& record, const v1::ServiceStatus& service) {
  json ports = json::array();
  for (const v1::ServicePort& port : service.ports()) {
    const bool udp = port.protocol() == v1::PROTOCOL_UDP;
    const bool forwarded = port.expose() && !udp;
    ports.push_back(PortJson(
        port.container_port(),
        forwarded ? RememberedPort(record, service.name(), port.container_port()) : uint16_t{0},
        udp));
  }
  return {{"name", service.name()},
          {"status", StatusWord(service.status())},
          {"containerId", service.container_id()},
          {"startedAt", service.has_started_at() ? TimeJson(service.started_at()) : json()},
          {"restartCount", service.restart_count()},
          {"exitCode", service.has_exit_code() ? json(service.exit_code()) : json()},
          {"message", service.message()},
          {"image", service.image()},
          {"ports", ports}};
}

json StoppedService(const RecordedService& service, bool exposed) {
  json ports = json::array();
  for (const RecordedPort& port : service.ports) {
    const bool udp = port.protocol == manifest::Protocol::kUdp;
    ports.push_back(PortJson(port.container_port,
                             exposed && port.exposed && !udp ? port.host_port : uint16_t{0}, udp));
  }
  return {{"name", service.name}, {"status", "stopped"},    {"containerId", ""},
          {"startedAt", nullptr}, {"restartCount", 0},      {"exitCode", nullptr},
          {"message", ""},        {"image", service.image}, {"ports", ports}};
}

std::string PendingMessage(Pending pending) {
  switch (pending) {
    case Pending::kNone:
      return "";
    case Pending::kStop:
      return "it is stopped when the machine next runs";
    case Pending::kRemoveKeepingData:
    case Pending::kRemove:
      return "its removal was interrupted and is finished when the machine next runs";
  }
  return "";
}

struct Wanted {
  const char* name;
  std::optional<bool> decision;
  std::string detail;
};

std::string ExposedPorts(const manifest::Manifest& manifest) {
  std::vector<std::string> ports;
  for (const manifest::Service& service : manifest.services) {
    for (const manifest::Port& port : service.ports) {
      if (port.host_exposure == manifest::Exposure::kAuto) {
        const bool udp = port.protocol == manifest::Protocol::kUdp;
        ports.push_back(absl::StrCat(port.container, udp ? "/udp" : "", " of ", service.name,
                                     udp ? " (which this version does not forward)" : ""));
      }
    }
  }
  return absl::StrJoin(ports, ", ");
}

std::vector<Wanted> WantedCapabilities(const manifest::Manifest& manifest,
                                       const Decisions& decisions) {
  std::vector<Wanted> wanted;
  if (manifest.network) {
    wanted.push_back({"network", decisions.network, "reach the internet"});
  }
  if (const std::string ports = ExposedPorts(manifest); !ports.empty()) {
    wanted.push_back(
        {"exposePorts", decisions.expose_ports,
         absl::StrCat("be reached from this computer, and from no other, on port ", ports)});
  }
  if (manifest.allow_host_file_import) {
    wanted.push_back(
        {"hostFileImport", decisions.host_file_import, "take in files that you choose"});
  }
  return wanted;
}

}  // namespace

std::string_view StatusWord(v1::Status status) {
  switch (status) {
    case v1::STATUS_STARTING:
      return "starting";
    case v1::STATUS_RUNNING:
      return "running";
    case v1::STATUS_STOPPING:
      return "stopping";
    case v1::STATUS_FAILED:
      return "failed";
    default:
      return "stopped";
  }
}

json TimeJson(const google::protobuf::Timestamp& time) {
  const absl::Time at = absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", at, absl::UTCTimeZone());
}

json ProjectJson(const ProjectRecord& record, const v1::Project* live, const std::string& message) {
  json services = json::array();
  if (live != nullptr) {
    for (const v1::ServiceStatus& service : live->services()) {
      services.push_back(LiveService(record, service));
    }
  } else {
    for (const RecordedService& service : record.services) {
      services.push_back(StoppedService(service, record.decisions.expose_ports.value_or(false)));
    }
  }
  const std::string pending = PendingMessage(record.pending);
  return {{"id", record.id},
          {"name", record.name},
          {"appId", record.app_id},
          {"version", record.app_version},
          {"status", live == nullptr ? "stopped" : StatusWord(live->status())},
          {"url", UrlOf(record)},
          {"path", record.path},
          {"message", pending.empty() ? message : pending},
          {"services", services},
          {"decisions",
           {{"network", DecisionJson(record.decisions.network)},
            {"exposePorts", DecisionJson(record.decisions.expose_ports)},
            {"hostFileImport", DecisionJson(record.decisions.host_file_import)}}}};
}

json LogLineJson(const v1::LogLine& line) {
  return {{"time", TimeJson(line.time())},
          {"service", line.service()},
          {"stream", line.stream() == v1::LogLine::STREAM_STDERR ? "stderr" : "stdout"},
          {"text", line.text()}};
}

json CapabilitiesJson(const manifest::Manifest& manifest, const Decisions& decisions) {
  json list = json::array();
  for (const Wanted& wanted : WantedCapabilities(manifest, decisions)) {
    list.push_back({{"capability", wanted.name},
                    {"decision", DecisionJson(wanted.decision)},
                    {"detail", wanted.detail}});
  }
  return list;
}

std::vector<std::string> Undecided(const manifest::Manifest& manifest, const Decisions& decisions) {
  std::vector<std::string> names;
  for (const Wanted& wanted : WantedCapabilities(manifest, decisions)) {
    if (!wanted.decision) {
      names.push_back(absl::StrCat(wanted.name, " (to ", wanted.detail, ")"));
    }
  }
  return names;
}

std::vector<ForwardedPort> PortsToForward(const ProjectRecord& record, const v1::Project& live) {
  std::vector<ForwardedPort> ports;
  for (const v1::ServiceStatus& service : live.services()) {
    for (const v1::ServicePort& port : service.ports()) {
      if (port.expose() && port.protocol() != v1::PROTOCOL_UDP && port.container_port() <= 65535) {
        ports.push_back({service.name(), static_cast<uint16_t>(port.container_port()),
                         RememberedPort(record, service.name(), port.container_port())});
      }
    }
  }
  return ports;
}

bool IsActive(const v1::Project& live) {
  return std::any_of(live.services().begin(), live.services().end(), [](const auto& service) {
    return service.status() == v1::STATUS_RUNNING || service.status() == v1::STATUS_STARTING ||
           service.status() == v1::STATUS_STOPPING;
  });
}

}  // namespace vibe::host
