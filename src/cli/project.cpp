#include "cli/project.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/table.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

uint16_t PortAt(const Json& json, const char* key) {
  const uint64_t port = UnsignedAt(json, key);
  return port <= 65535 ? static_cast<uint16_t>(port) : 0;
}

ProjectService ParseService(const Json& json) {
  ProjectService service;
  service.name = StringAt(json, "name");
  service.status = StringAt(json, "status");
  service.started_at = StringAt(json, "startedAt");
  service.restart_count = UnsignedAt(json, "restartCount");
  service.exit_code = NumberAt(json, "exitCode");
  service.message = StringAt(json, "message");
  service.image = StringAt(json, "image");
  for (const Json& port : ArrayAt(json, "ports")) {
    service.ports.push_back({PortAt(port, "containerPort"), PortAt(port, "hostPort"),
                             StringAt(port, "protocol"), UnsignedAt(port, "connections"),
                             UnsignedAt(port, "openConnections"), UnsignedAt(port, "bytesIn"),
                             UnsignedAt(port, "bytesOut")});
  }
  return service;
}

Cell StatusCell(const std::string& status, bool color) {
  const std::string text = Escape(status);
  const Color shade = status == "running"   ? Color::kGreen
                      : status == "failed"  ? Color::kRed
                      : status == "stopped" ? Color::kDim
                                            : Color::kYellow;
  return {text, Paint(text, shade, color)};
}

std::string Number(const ProjectPort& port) {
  return absl::StrCat(port.container_port, port.protocol == "udp" ? "/udp" : "");
}

std::string Ports(const ProjectService& service) {
  std::string out;
  for (const ProjectPort& port : service.ports) {
    absl::StrAppend(&out, out.empty() ? "" : ", ");
    if (port.host_port != 0) {
      absl::StrAppend(&out, port.host_port, "->");
    }
    absl::StrAppend(&out, Number(port));
  }
  return out.empty() ? "-" : out;
}

std::string Age(const std::string& started_at, absl::Time now) {
  absl::Time started;
  std::string error;
  if (started_at.empty() || !absl::ParseTime(absl::RFC3339_full, started_at, &started, &error)) {
    return "-";
  }
  return FormatAge(now - started);
}

std::string OrDash(const std::string& text) {
  return text.empty() ? "-" : Escape(text);
}

std::string Problem(const std::string& message, const TableStyle& style) {
  return message.empty()
             ? ""
             : absl::StrCat("\n", Paint("problem", Color::kRed, style.color), ": ", message, "\n");
}

// Why a service is not well; empty when it is.
std::string Complaint(const ProjectService& service) {
  if (!service.message.empty()) {
    return Escape(service.message);
  }
  if (service.status == "failed" && service.exit_code) {
    return absl::StrCat("ended with exit code ", *service.exit_code);
  }
  return "";
}

}  // namespace

Project ParseProject(const Json& json) {
  Project project;
  project.id = StringAt(json, "id");
  project.name = StringAt(json, "name");
  project.app_id = StringAt(json, "appId");
  project.version = StringAt(json, "version");
  project.status = StringAt(json, "status");
  project.url = StringAt(json, "url");
  project.named_url = StringAt(json, "namedUrl");
  project.path = StringAt(json, "path");
  project.message = StringAt(json, "message");
  for (const Json& service : ArrayAt(json, "services")) {
    project.services.push_back(ParseService(service));
  }
  return project;
}

std::string DescribeProject(const Project& project) {
  const std::string state = absl::StrCat(Escape(project.name), " is ", OrDash(project.status));
  if (project.status != "running") {
    return state;
  }
  std::string out = project.url.empty() ? state
                                        : absl::StrCat(state, " at ", Escape(project.named_url),
                                                       " (also ", Escape(project.url), ")");
  for (const ProjectService& service : project.services) {
    for (const ProjectPort& port : service.ports) {
      if (port.host_port != 0 && project.url != absl::StrCat("http://localhost:", port.host_port)) {
        absl::StrAppend(&out, "\n  port ", Number(port), " of ", Escape(service.name),
                        " is at localhost:", port.host_port);
      }
    }
  }
  if (!project.message.empty()) {
    absl::StrAppend(&out, "\n", Escape(project.message));
  }
  return out;
}

std::string RenderProjects(const std::vector<Project>& projects, const TableStyle& style) {
  if (projects.empty()) {
    return "No projects yet: `vibe open PATH` opens an app.\n";
  }
  std::vector<std::vector<Cell>> rows;
  for (const Project& project : projects) {
    const auto running = std::count_if(project.services.begin(), project.services.end(),
                                       [](const auto& s) { return s.status == "running"; });
    rows.push_back({{Escape(project.name), ""},
                    StatusCell(project.status, style.color),
                    {absl::StrCat(running, "/", project.services.size()), ""},
                    {OrDash(project.url), ""},
                    {absl::StrCat(Escape(project.app_id), " ", Escape(project.version)), ""}});
  }
  std::string out = RenderTable({"NAME", "STATUS", "SERVICES", "URL", "APP"}, rows, style.width);
  std::map<std::string, std::vector<std::string>> problems;  // what concerns all is said once
  for (const Project& project : projects) {
    if (!project.message.empty()) {
      problems[project.message].push_back(Escape(project.name));
    }
  }
  for (const auto& [message, names] : problems) {
    absl::StrAppend(
        &out, Problem(absl::StrCat(absl::StrJoin(names, ", "), ": ", Escape(message)), style));
  }
  return out;
}

std::string DescribeKept(const Json& kept) {
  if (kept.empty()) {
    return "";
  }
  std::vector<std::vector<Cell>> rows;
  for (const Json& project : kept) {
    rows.push_back({{Escape(StringAt(project, "name")), ""},
                    {absl::StrCat(Escape(StringAt(project, "appId")), " ",
                                  Escape(StringAt(project, "version"))),
                     ""},
                    {Escape(StringAt(project, "id")), ""}});
  }
  return absl::StrCat(
      "\nRemoved, and their data kept: `vibe rm` deletes it, opening the app again has it back.\n",
      RenderTable({"NAME", "APP", "ID"}, rows, 0));
}

std::string RenderPorts(const Project& project, const TableStyle& style) {
  std::vector<std::vector<Cell>> rows;
  for (const ProjectService& service : project.services) {
    for (const ProjectPort& port : service.ports) {
      if (port.host_port == 0) {
        rows.push_back({{Escape(service.name), ""}, {Number(port), ""}, {"-", ""}});
        continue;
      }
      rows.push_back({{Escape(service.name), ""},
                      {Number(port), ""},
                      {absl::StrCat("localhost:", port.host_port), ""},
                      {absl::StrCat(port.open_connections), ""},
                      {absl::StrCat(port.connections), ""},
                      {FormatBytes(port.bytes_in), ""},
                      {FormatBytes(port.bytes_out), ""}});
    }
  }
  if (rows.empty()) {
    return absl::StrCat("The services of ", Escape(project.name), " have no ports.\n");
  }
  std::string out = RenderTable({"SERVICE", "PORT", "ADDRESS", "OPEN", "CONNECTIONS", "IN", "OUT"},
                                rows, style.width);
  if (project.status == "stopped") {
    absl::StrAppend(&out, "\n", Escape(project.name),
                    " is stopped: nothing answers there until `vibe start ", Escape(project.name),
                    "`\n");
  } else if (!project.named_url.empty()) {
    absl::StrAppend(&out, "\nIn a browser: ", Escape(project.named_url), "\n");
  }
  return absl::StrCat(out, Problem(Escape(project.message), style));
}

std::string RenderProject(const Project& project, const TableStyle& style) {
  std::string out = absl::StrCat(
      Paint(Escape(project.name), Color::kBold, style.color), "  ",
      StatusCell(project.status, style.color).painted, "\n", "  app   ", Escape(project.app_id),
      " ", Escape(project.version), "\n", "  url   ", OrDash(project.url),
      project.named_url.empty() ? "" : absl::StrCat("  ", Escape(project.named_url)), "\n",
      "  path  ", OrDash(project.path), "\n", "  id    ", Escape(project.id), "\n\n");
  std::vector<std::vector<Cell>> rows;
  for (const ProjectService& service : project.services) {
    rows.push_back({{Escape(service.name), ""},
                    StatusCell(service.status, style.color),
                    {Ports(service), ""},
                    {Age(service.started_at, style.now), ""},
                    {absl::StrCat(service.restart_count), ""},
                    {Escape(service.image), ""}});
  }
  absl::StrAppend(&out, RenderTable({"SERVICE", "STATUS", "PORTS", "UP", "RESTARTS", "IMAGE"}, rows,
                                    style.width));
  absl::StrAppend(&out, Problem(Escape(project.message), style));
  for (const ProjectService& service : project.services) {
    if (const std::string complaint = Complaint(service); !complaint.empty()) {
      absl::StrAppend(&out, "\n", Paint(Escape(service.name), Color::kRed, style.color), ": ",
                      complaint, "\n");
    }
  }
  return out;
}

}  // namespace vibe::cli
