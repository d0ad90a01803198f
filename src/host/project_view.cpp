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

uint16_t RememberedPort(const ProjectRecord& record, const std::string& service, uint32_t port,
                        manifest::Protocol protocol) {
  for (const RecordedService& candidate : record.services) {
    for (const RecordedPort& known : candidate.ports) {
      if (candidate.name == service && known.container_port == port && known.protocol == protocol) {
        return known.host_port;
      }
    }
  }
  return 0;
}

// What went through a port; zeros when it is not held.
json PortJson(const std::string& service, const RecordedPort& port,
              const std::vector<PortTraffic>& traffic) {
  const auto found = std::find_if(traffic.begin(), traffic.end(), [&](const PortTraffic& known) {
    return known.port.service == service && known.port.container_port == port.container_port &&
           ToManifest(known.port.protocol) == port.protocol;
  });
  const PortTraffic counted = found == traffic.end() ? PortTraffic() : *found;
  return {{"containerPort", port.container_port},
          {"hostPort", port.host_port == 0 ? json() : json(port.host_port)},
          {"protocol", port.protocol == manifest::Protocol::kUdp ? "udp" : "tcp"},
          {"connections", counted.connections},
          {"openConnections", counted.open_connections},
          {"bytesIn", counted.bytes_in},
          {"bytesOut", counted.bytes_out}};
}

manifest::Protocol ProtocolOf(const v1::ServicePort& port) {
  return port.protocol() == v1::PROTOCOL_UDP ? manifest::Protocol::kUdp : manifest::Protocol::kTcp;
}

json LiveService(const ProjectRecord& record, const v1::ServiceStatus& service,
                 const std::vector<PortTraffic>& traffic) {
  json ports = json::array();
  for (const v1::ServicePort& port : service.ports()) {
    RecordedPort shown;
    shown.container_port = static_cast<uint16_t>(port.container_port());
    shown.protocol = ProtocolOf(port);
    if (port.expose()) {
      shown.host_port =
          RememberedPort(record, service.name(), port.container_port(), shown.protocol);
    }
    ports.push_back(PortJson(service.name(), shown, traffic));
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

// As the manifest has them; the machine tells them in the order of their start.
std::vector<const v1::ServiceStatus*> InOrder(const ProjectRecord& record,
                                              const v1::Project& live) {
  std::vector<const v1::ServiceStatus*> services;
  for (const v1::ServiceStatus& service : live.services()) {
    services.push_back(&service);
  }
  const auto place = [&record](const v1::ServiceStatus* live_one) {
    return std::find_if(
        record.services.begin(), record.services.end(),
        [&](const RecordedService& known) { return known.name == live_one->name(); });
  };
  std::stable_sort(services.begin(), services.end(),
                   [&](const auto* a, const auto* b) { return place(a) < place(b); });
  return services;
}

json RecordedOnly(const RecordedService& service, bool exposed, std::string_view status) {
  json ports = json::array();
  for (RecordedPort port : service.ports) {
    port.host_port = exposed && port.exposed ? port.host_port : uint16_t{0};
    ports.push_back(PortJson(service.name, port, {}));
  }
  return {{"name", service.name}, {"status", status},       {"containerId", ""},
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

// Of a copy: it may run before anybody was asked what it may do.
std::string UnaskedMessage(const ProjectRecord& record, const v1::Project* live) {
  const bool exposes = std::any_of(
      record.services.begin(), record.services.end(), [](const RecordedService& service) {
        return std::any_of(service.ports.begin(), service.ports.end(),
                           [](const RecordedPort& port) { return port.exposed; });
      });
  return exposes && !record.decisions.expose_ports && live != nullptr && IsActive(*live)
             ? absl::StrCat("it has no address: `vibe grant ", record.name,
                            " exposePorts` gives it one")
             : "";
}

struct Wanted {
  const char* name;
  std::optional<bool> decision;
  std::string detail;
};

std::string DescribeExposed(const manifest::Manifest& manifest) {
  std::vector<std::string> ports;
  for (const manifest::Service& service : manifest.services) {
    for (const manifest::Port& port : service.ports) {
      if (port.host_exposure == manifest::Exposure::kAuto) {
        const bool udp = port.protocol == manifest::Protocol::kUdp;
        ports.push_back(absl::StrCat(port.container, udp ? "/udp" : "", " of ", service.name));
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
  if (const std::string ports = DescribeExposed(manifest); !ports.empty()) {
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
      return kStopped;
  }
}

json TimeJson(const google::protobuf::Timestamp& time) {
  const absl::Time at = absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", at, absl::UTCTimeZone());
}

json ProjectJson(const ProjectRecord& record, const v1::Project* live,
                 const std::vector<PortTraffic>& traffic, const std::string& message,
                 std::string_view otherwise) {
  json services = json::array();
  if (live != nullptr) {
    for (const v1::ServiceStatus* service : InOrder(record, *live)) {
      services.push_back(LiveService(record, *service, traffic));
    }
  } else {
    for (const RecordedService& service : record.services) {
      services.push_back(
          RecordedOnly(service, record.decisions.expose_ports.value_or(false), otherwise));
    }
  }
  const std::string pending = PendingMessage(record.pending);
  const std::string trouble = pending.empty() ? message : pending;
  return {{"id", record.id},
          {"name", record.name},
          {"appId", record.app_id},
          {"version", live == nullptr || live->app_version().empty() ? record.app_version
                                                                     : live->app_version()},
          {"status", live == nullptr ? otherwise : StatusWord(live->status())},
          {"url", UrlOf(record, "localhost")},
          {"namedUrl", UrlOf(record, absl::StrCat(record.name, ".localhost"))},
          {"path", record.path},
          {"message", trouble.empty() ? UnaskedMessage(record, live) : trouble},
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

manifest::Protocol ToManifest(relay::Protocol protocol) {
  return protocol == relay::Protocol::kUdp ? manifest::Protocol::kUdp : manifest::Protocol::kTcp;
}

std::vector<ForwardedPort> ExposedPorts(const ProjectRecord& record) {
  std::vector<ForwardedPort> ports;
  for (const RecordedService& service : record.services) {
    for (const RecordedPort& port : service.ports) {
      if (port.exposed) {
        ports.push_back({service.name, port.container_port, port.host_port,
                         port.protocol == manifest::Protocol::kUdp ? relay::Protocol::kUdp
                                                                   : relay::Protocol::kTcp});
      }
    }
  }
  return ports;
}

std::vector<ForwardedPort> PortsToForward(const ProjectRecord& record, const v1::Project& live) {
  std::vector<ForwardedPort> ports;
  for (const v1::ServiceStatus& service : live.services()) {
    for (const v1::ServicePort& port : service.ports()) {
      if (port.expose() && port.container_port() <= 65535) {
        const relay::Protocol protocol =
            port.protocol() == v1::PROTOCOL_UDP ? relay::Protocol::kUdp : relay::Protocol::kTcp;
        ports.push_back(
            {service.name(), static_cast<uint16_t>(port.container_port()),
             RememberedPort(record, service.name(), port.container_port(), ToManifest(protocol)),
             protocol});
      }
    }
  }
  return ports;
}

std::vector<RecordedService> ServicesOf(const ProjectRecord& record, const v1::Project& live) {
  std::vector<RecordedService> services;
  for (const v1::ServiceStatus& service : live.services()) {
    RecordedService recorded{service.name(), service.image(), {}};
    for (const v1::ServicePort& port : service.ports()) {
      if (port.container_port() <= 65535) {
        recorded.ports.push_back(
            {static_cast<uint16_t>(port.container_port()), ProtocolOf(port), port.auto_exposure(),
             RememberedPort(record, service.name(), port.container_port(), ProtocolOf(port))});
      }
    }
    services.push_back(std::move(recorded));
  }
  return services;
}

bool IsActive(const v1::Project& live) {
  return std::any_of(live.services().begin(), live.services().end(), [](const auto& service) {
    return service.status() == v1::STATUS_RUNNING || service.status() == v1::STATUS_STARTING ||
           service.status() == v1::STATUS_STOPPING;
  });
}

}  // namespace vibe::host
