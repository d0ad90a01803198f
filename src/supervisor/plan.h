// The pure middle of the supervisor: manifest + grants + what the images say = a plan, the complete
// description of what must exist for the project to run. The same input gives the same bytes.
// Pure and thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "manifest/manifest.h"
#include "network/network.h"

namespace vibe::supervisor {

struct PlanInput {
  std::string project_id;
  std::string project_name;
  manifest::Manifest manifest;
  int network_index = 0;
  network::AddressPool pool = {};
  bool grant_network = false;
  bool grant_expose_ports = false;
  bool has_files = false;               // the package holds more than the manifest: /app exists
  std::string package_dir;              // read-only app files; empty without
  std::string project_dir;              // holds volumes and writable layers
  std::string run_dir;                  // hosts, resolv.conf, …: made anew at each start
  std::string cgroup_parent = "/vibe";  // the services' cgroups are below it
  std::vector<std::string> nameservers = {};  // addresses
};

struct PlannedMount {
  std::string type;  // "bind" or "overlay" or "tmpfs"
  std::string source;
  std::string target;
  std::vector<std::string> options;
};

struct PlannedService {
  std::string name;
  std::vector<std::string> aliases;
  std::string container_id;                      // equals the name: ids are unique per namespace
  std::string image;                             // normalized reference
  std::vector<std::string> entrypoint, command;  // overrides; empty: the image's
  std::map<std::string, std::string> env;        // of the manifest
  std::string working_dir, user;                 // overrides; empty: the image's
  std::vector<PlannedMount> mounts;
  std::vector<PlannedMount> default_settings;  // each only where the image's own file says nothing
  std::vector<std::string> directories;        // to be made before the mounts
  int service_index = 0;                       // place in the manifest: decides the address
  std::string ipv4, ipv6;
  std::string netns;  // empty: a private one without any interface
  std::vector<manifest::Port> ports;
  std::vector<std::string> depends_on;
  std::optional<manifest::Healthcheck> healthcheck;
  manifest::Hooks hooks;
  manifest::Restart restart = manifest::Restart::kOnFailure;
  manifest::Resources resources;
  std::string cgroup;
};

struct Plan {
  std::string project_id, project_name;
  std::string containerd_namespace;
  int network_index = 0;
  network::AddressPool pool;
  bool internet = false;
  bool expose_ports = false;
  std::vector<PlannedService> services;  // in start order
  std::string hosts;                     // the text of /etc/hosts
  std::string resolv_conf;               // the text of /etc/resolv.conf
};

// "vibe-<app id, lower case, at most 40 chars, [a-z0-9-]>-<first 12 hex of sha256(project id)>".
std::string NamespaceName(absl::string_view app_id, absl::string_view project_id);

// INVALID_MANIFEST for a cycle or an unknown name (the manifest's own check says the same with a
// line).
absl::StatusOr<Plan> MakePlan(const PlanInput& input);

// The files that must be in `run_dir` before a service starts, name to text: the mounts' sources.
std::map<std::string, std::string> RunFiles(const Plan& plan);

// Indented JSON with a fixed key order, for tests and for `current/runtime/plan.json`.
std::string ToJson(const Plan& plan);

}  // namespace vibe::supervisor
