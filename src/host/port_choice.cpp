#include "host/port_choice.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/shell.h"
#include "base/status.h"

namespace vibe::host {
namespace {

absl::Status Malformed(absl::string_view text) {
  return WithAdvice(
      absl::InvalidArgumentError(
          absl::StrCat("\"", text.substr(0, 100), "\" is not a port choice")),
      "write SERVICE:HOSTPORT, such as web:8080, or SERVICE:HOSTPORT:PORT when the service has "
      "several ports; /udp behind it for one of UDP");
}

std::optional<uint16_t> ParsePort(absl::string_view text, uint32_t least) {
  const bool digits =
      !text.empty() && text.size() <= 5 &&
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  uint32_t number = 0;
  if (!digits || !absl::SimpleAtoi(text, &number) || number < least || number > 65535) {
    return std::nullopt;
  }
  return static_cast<uint16_t>(number);
}

std::string Describe(uint16_t number, std::optional<manifest::Protocol> protocol) {
  return absl::StrCat(number, protocol == manifest::Protocol::kUdp ? "/udp" : "");
}

// "80", or "80/tcp" where the service exposes both of that number.
std::string Describe(const RecordedService& service, const RecordedPort& port) {
  const bool both =
      std::count_if(service.ports.begin(), service.ports.end(), [&](const RecordedPort& any) {
        return any.exposed && any.container_port == port.container_port;
      }) > 1;
  return both && port.protocol == manifest::Protocol::kTcp
             ? absl::StrCat(port.container_port, "/tcp")
             : Describe(port.container_port, port.protocol);
}

// "web:0", with the port when the service exposes several.
std::string ChoiceOf(const RecordedService& service, const RecordedPort& port, uint16_t host_port) {
  const auto exposed = std::count_if(service.ports.begin(), service.ports.end(),
                                     [](const RecordedPort& any) { return any.exposed; });
  return absl::StrCat(service.name, ":", host_port, exposed > 1 ? ":" : "",
                      exposed > 1 ? Describe(service, port) : "");
}

bool Fits(const PortChoice& choice, const RecordedPort& port) {
  return port.exposed &&
         (!choice.container_port || *choice.container_port == port.container_port) &&
         (!choice.protocol || *choice.protocol == port.protocol);
}

absl::StatusOr<RecordedPort*> PortOf(const PortChoice& choice, ProjectRecord& record) {
  std::vector<std::string> names, exposed;
  for (RecordedService& service : record.services) {
    names.push_back(service.name);
    if (service.name != choice.service) {
      continue;
    }
    std::vector<RecordedPort*> fitting;
    for (RecordedPort& port : service.ports) {
      if (port.exposed) {
        exposed.push_back(Describe(service, port));
      }
      if (Fits(choice, port)) {
        fitting.push_back(&port);
      }
    }
    if (fitting.size() == 1) {
      return fitting[0];
    }
    if (fitting.size() > 1) {
      return WithAdvice(
          absl::InvalidArgumentError(absl::StrCat(
              "the service ", choice.service, " exposes the ports ", absl::StrJoin(exposed, ", "))),
          absl::StrCat("say which one: ", choice.service, ":", choice.host_port, ":",
                       Describe(service, *fitting[0])));
    }
    if (exposed.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the service ", choice.service, " exposes no port"));
    }
    const std::string wanted =
        choice.container_port ? absl::StrCat(" ", Describe(*choice.container_port, choice.protocol))
                              : "";
    return absl::InvalidArgumentError(absl::StrCat("the service ", choice.service,
                                                   " exposes no such port", wanted, "; it exposes ",
                                                   absl::StrJoin(exposed, ", ")));
  }
  return WithAdvice(Error(absl::StatusCode::kNotFound, Reason::kNotFound,
                          absl::StrCat("there is no service called ", choice.service)),
                    absl::StrCat("the services are ", absl::StrJoin(names, ", ")));
}

struct Holder {
  const RecordedService* service = nullptr;  // null: nobody
  const RecordedPort* port = nullptr;
};

// Who in `record` has the host port, other than `self`.
Holder HolderIn(const ProjectRecord& record, const RecordedPort& wanted, const RecordedPort* self) {
  for (const RecordedService& service : record.services) {
    for (const RecordedPort& port : service.ports) {
      if (&port != self && port.host_port == wanted.host_port && port.protocol == wanted.protocol) {
        return {&service, &port};
      }
    }
  }
  return {};
}

absl::Status CheckFree(const RecordedPort& wanted, const std::vector<ProjectRecord>& projects,
                       const ProjectRecord& record) {
  if (wanted.host_port == 0) {
    return absl::OkStatus();
  }
  const auto taken = [&](absl::string_view project, const Holder& holder,
                         absl::string_view advice) {
    return WithAdvice(Error(absl::StatusCode::kFailedPrecondition, Reason::kPortConflict,
                            absl::StrCat("port ", Describe(wanted.host_port, wanted.protocol),
                                         " of this computer belongs to ", holder.service->name,
                                         " of the project ", project)),
                      advice);
  };
  if (const Holder holder = HolderIn(record, wanted, &wanted); holder.service != nullptr) {
    return taken(record.name, holder, "choose another port for one of the two");
  }
  for (const ProjectRecord& other : projects) {
    const Holder holder = other.id == record.id ? Holder() : HolderIn(other, wanted, nullptr);
    if (holder.service != nullptr) {
      const std::string giving_up =
          absl::StrCat(", or give it up first: `vibe open ", ShellQuoted(other.path), " --name ",
                       other.name, " --port ", ChoiceOf(*holder.service, *holder.port, 0), "`");
      return taken(other.name, holder,
                   absl::StrCat("choose another port", other.path.empty() ? "" : giving_up));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PortChoice> ParsePortChoice(absl::string_view text) {
  PortChoice choice;
  absl::string_view rest = text;
  if (absl::ConsumeSuffix(&rest, "/udp")) {
    choice.protocol = manifest::Protocol::kUdp;
  } else if (absl::ConsumeSuffix(&rest, "/tcp")) {
    choice.protocol = manifest::Protocol::kTcp;
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(rest, ':');
  if (parts.size() < 2 || parts.size() > 3 || parts[0].empty()) {
    return Malformed(text);
  }
  choice.service = std::string(parts[0]);
  const std::optional<uint16_t> host_port = ParsePort(parts[1], 0);
  if (!host_port) {
    return Malformed(text);
  }
  choice.host_port = *host_port;
  if (parts.size() == 3) {
    choice.container_port = ParsePort(parts[2], 1);
    if (!choice.container_port) {
      return Malformed(text);
    }
  }
  return choice;
}

absl::Status ApplyPortChoices(const std::vector<PortChoice>& choices,
                              const std::vector<ProjectRecord>& projects, ProjectRecord& record) {
  std::vector<const RecordedPort*> chosen;
  for (const PortChoice& choice : choices) {
    VIBE_ASSIGN_OR_RETURN(RecordedPort * port, PortOf(choice, record));
    if (std::find(chosen.begin(), chosen.end(), port) != chosen.end()) {
      return absl::InvalidArgumentError(absl::StrCat("two ports are chosen for ",
                                                     Describe(port->container_port, port->protocol),
                                                     " of ", choice.service));
    }
    port->host_port = choice.host_port;
    chosen.push_back(port);
  }
  for (const RecordedPort* port : chosen) {
    VIBE_RETURN_IF_ERROR(CheckFree(*port, projects, record));
  }
  return absl::OkStatus();
}

}  // namespace vibe::host
