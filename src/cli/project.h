// A project as vibed reports it, and how it is shown. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "cli/json_fields.h"

namespace vibe::cli {

struct ProjectPort {
  uint16_t container_port = 0;
  uint16_t host_port = 0;  // 0: not exposed
  std::string protocol;
  uint64_t connections = 0;
  uint64_t open_connections = 0;
  uint64_t bytes_in = 0;  // to the service
  uint64_t bytes_out = 0;
};

struct ProjectService {
  std::string name;
  std::string status;
  std::string started_at;  // RFC 3339; empty when it does not run
  uint64_t restart_count = 0;
  std::optional<int64_t> exit_code;
  std::string message;
  std::string image;
  std::vector<ProjectPort> ports;
};

struct Project {
  std::string id;
  std::string name;
  std::string app_id;
  std::string version;
  std::string status;
  std::string url;        // http://localhost:PORT, which every program finds
  std::string named_url;  // http://NAME.localhost:PORT, which browsers find
  std::string path;
  std::string message;  // why it does not work as it should; empty when it does
  std::vector<ProjectService> services;
};

Project ParseProject(const Json& json);

// "notes is running at http://notes.localhost:4711 (also http://localhost:4711)", and a line for
// each further port, and for what is wrong with it.
std::string DescribeProject(const Project& project);

// What `vibe ps` says of the removed projects whose data was kept; empty when there are none.
std::string DescribeKept(const Json& kept);

struct TableStyle {
  int width = 0;  // 0: any
  bool color = false;
  absl::Time now;
};

// `vibe ps`: a line per project. `vibe ps NAME`: the project's facts and a line per service.
std::string RenderProjects(const std::vector<Project>& projects, const TableStyle& style);
std::string RenderProject(const Project& project, const TableStyle& style);
// `vibe ports NAME`: a line per port.
std::string RenderPorts(const Project& project, const TableStyle& style);

}  // namespace vibe::cli
